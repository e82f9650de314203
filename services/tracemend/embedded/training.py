"""The trainings of the embedded pipeline: what can be told before any work, and running one, in this process or under
a launcher of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from tracemend.corrector.decide import strategy_for
from tracemend.embedded.goals import Goal
from tracemend.embedded.models import Engine
from tracemend.embedded.plan import Plan
from tracemend.embedded.progress import Observer
from tracemend.embedded.rewarding import JudgeReward
from tracemend.judge.settings import JudgeSettings
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import TextModel
from tracemend.records import Category, Checkpoint
from tracemend.runtime.jobs import Crew, open_launcher
from tracemend.trainer.algorithm import make_algorithm
from tracemend.trainer.job import job_of
from tracemend.trainer.reward import offer
from tracemend.trainer.training import TrainingJob


def check_trainings(plan: Plan, *, crew: Crew | None = None, goal: Goal | None = None) -> None:
    """`SetupError` where an arm's algorithm cannot be, does not learn from what the arm assembles, where pairs are to
    be assembled of units that give none, or where the nodes of `crew` cannot share what is to be trained."""
    for arm in plan.owners:
        _check_pairs(plan, arm)
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
    if crew is not None:
        _check_shares(plan, crew, plan.run.arms if goal is None else [goal.arm])


def _check_shares(plan: Plan, crew: Crew, arms: Iterable[str]) -> None:
    for arm in arms:
        settings = plan.run.arms[arm].train
        if settings is None or settings.num_processes == 1:
            continue
        try:
            crew.share_of(settings.num_processes)
        except SetupError as error:
            raise SetupError(f"arms.{arm}.train: {error}") from None


def _check_pairs(plan: Plan, arm: str) -> None:
    """Both kinds of pair that `arm` wants a share of are made by some strategy. The units are the owner's: of harmful
    prompts those of `pairs_from`, of harmless ones the arm's own."""
    settings = plan.run.arms[arm].assemble
    if settings.kind != "pairs" or settings.rows_of:
        return
    lender = settings.pairs_from or arm
    if settings.benign_share < 1 and not _makes_pairs(plan, lender, Category.HARMFUL):
        raise SetupError(
            f"arms.{arm}.assemble: the units of '{lender}' give no harmful pairs: set pairs_from to an arm whose "
            "strategy is intervene or contrast, or benign_share to 1"
        )
    if settings.benign_share > 0 and not _makes_pairs(plan, arm, Category.BENIGN):
        raise SetupError(
            f"arms.{arm}.assemble: the units of '{arm}' give no benign pairs, and benign_share is "
            f"{settings.benign_share:g}: set correct.strategy to refused, or benign_share to 0"
        )


def _makes_pairs(plan: Plan, arm: str, category: Category) -> bool:
    owner = plan.owners[arm]
    correction = plan.corrections(plan.run.arms[owner].from_).arm(owner)
    assert correction is not None, "owners correct"
    strategy = strategy_for(correction, category)
    return strategy is not None and strategy.makes_pairs


async def run_training(
    training: TrainingJob,
    *,
    engine: Engine,
    observer: Observer,
    judge: JudgeSettings,
    models: Mapping[str, TextModel],
    crew: Crew | None = None,
) -> Checkpoint:
    """The checkpoint of `training`. The target's engine is released first: one device holds one of the two. `crew` are
    the nodes that share its processes, where this one is not alone; a single process is this one's.

    An algorithm that samples is rewarded by the run's judge, which `judge` and `models` build.
    """
    await engine.release()
    launcher = open_launcher(
        training.settings.launcher,
        report=lambda name, step, num_steps, loss: observer.training(step, num_steps, loss),
        crew=crew if training.settings.num_processes > 1 else None,
    )
    if not make_algorithm(training.settings).samples:
        return await launcher.run(job_of(training, name=training.folder.name))
    reward = JudgeReward(judge, models, loop=asyncio.get_running_loop())
    assert reward.identity == training.reward, "the job names the reward of the run's judge"
    with offer(reward):
        return await launcher.run(job_of(training, name=training.folder.name))
