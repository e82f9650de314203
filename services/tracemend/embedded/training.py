"""Running a training job of the embedded pipeline: in this process, or under a launcher of its own."""

from __future__ import annotations

from tracemend.embedded.models import Engine
from tracemend.embedded.progress import Observer
from tracemend.records import Checkpoint
from tracemend.runtime.jobs import open_launcher
from tracemend.trainer.job import job_of
from tracemend.trainer.training import TrainingJob


async def run_training(training: TrainingJob, *, engine: Engine, observer: Observer) -> Checkpoint:
    """The checkpoint of `training`. The target's engine is released first: one device holds one of the two."""
    await engine.release()
    launcher = open_launcher(
        training.settings.launcher, report=lambda name, step, num_steps, loss: observer.training(step, num_steps, loss)
    )
    return await launcher.run(job_of(training, name=training.folder.name))
