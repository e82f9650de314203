"""The training job as launchers run it: `run` here, or `python -m tracemend.trainer.job JOB.json` as its own process.

The composition of a training: the plain arguments of the job on one side, `training.train` with what names models on
the other.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracemend.kit.ports import Job
from tracemend.records import Checkpoint
from tracemend.runtime.jobs import identity_of_model, main
from tracemend.trainer.callbacks import Progress
from tracemend.trainer.reward import offered
from tracemend.trainer.training import TrainingJob, train


def job_of(training: TrainingJob, *, name: str) -> Job:
    """`training` as a launcher takes it."""
    return Job(
        name=name,
        module=__name__ if __name__ != "__main__" else "tracemend.trainer.job",
        arguments=training.arguments,
        folder=str(training.folder),
        num_processes=training.settings.num_processes,
    )


def run(arguments: Mapping[str, Any], *, folder: Path, progress: Progress | None = None) -> Checkpoint:
    """Train what `arguments` describe in `folder` (see `TrainingJob.arguments`)."""
    training = TrainingJob.from_arguments(arguments, folder=folder)
    _choose_accelerator()
    if training.settings.deepspeed != "none" and "RANK" not in os.environ:
        _be_a_group_of_one()
    return train(training, identify=identity_of_model, progress=progress, reward=offered(training.reward))


def _choose_accelerator() -> None:
    """Accelerate imports DeepSpeed wherever it is installed, and that complains where it finds no GPU."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def _be_a_group_of_one() -> None:
    """DeepSpeed wants a process group, which torchrun makes only for several processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ.update(alone, MASTER_PORT=str(port))


if __name__ == "__main__":
    sys.exit(main(run))
