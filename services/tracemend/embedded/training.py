"""The trainings of the embedded pipeline: what can be told before any work, and running one, in this process or under
a launcher of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tracemend.embedded.models import Engine
from tracemend.embedded.plan import Plan
from tracemend.embedded.progress import Observer
from tracemend.embedded.rewarding import JudgeReward
from tracemend.judge.settings import JudgeSettings
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import TextModel
from tracemend.records import Checkpoint
from tracemend.runtime.jobs import open_launcher
from tracemend.trainer.algorithm import make_algorithm
from tracemend.trainer.job import job_of
from tracemend.trainer.reward import offer
from tracemend.trainer.training import TrainingJob


def check_trainings(plan: Plan) -> None:
    """`SetupError` where an arm's algorithm cannot be, or does not learn from what the arm assembles."""
    for arm, settings in plan.run.arms.items():
        if settings.train is None:
            continue
        try:
            algorithm = make_algorithm(settings.train)
        except SetupError as error:
            raise SetupError(f"arms.{arm}.train: {error}") from None
        if algorithm.kind != settings.assemble.kind:
            raise SetupError(
                f"arms.{arm}: algorithm '{settings.train.algorithm}' learns from {algorithm.kind}, and the arm "
                f"assembles {settings.assemble.kind}: set assemble.kind: {algorithm.kind}, or name another algorithm"
            )


async def run_training(
    training: TrainingJob, *, engine: Engine, observer: Observer, judge: JudgeSettings, models: Mapping[str, TextModel]
) -> Checkpoint:
    """The checkpoint of `training`. The target's engine is released first: one device holds one of the two.

    An algorithm that samples is rewarded by the run's judge, which `judge` and `models` build.
    """
    await engine.release()
    launcher = open_launcher(
        training.settings.launcher, report=lambda name, step, num_steps, loss: observer.training(step, num_steps, loss)
    )
    if not make_algorithm(training.settings).samples:
        return await launcher.run(job_of(training, name=training.folder.name))
    reward = JudgeReward(judge, models, loop=asyncio.get_running_loop())
    assert reward.identity == training.reward, "the job names the reward of the run's judge"
    with offer(reward):
        return await launcher.run(job_of(training, name=training.folder.name))
