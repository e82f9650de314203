"""Training in processes of its own: DeepSpeed and data parallelism on CPU, launched as a cluster would."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from tests.contract import tiny_models
from tests.unit.trainer.trainer_builders import example_of, job_of

from tracemend.adapters.launchers import Preempted, SubprocessLauncher
from tracemend.kit.errors import Reject
from tracemend.runtime.jobs import identity_of_model
from tracemend.trainer import job as training_job
from tracemend.trainer.settings import TrainSettings
from tracemend.trainer.training import train

pytestmark = pytest.mark.slow

EXAMPLES = [example_of(number) for number in range(24)]
TWO = {"num_processes": 2, "batch_size": 2, "launcher": "subprocess"}
"""As many rows for each step as `expected` takes."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_models.build(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def expected(base, tmp_path_factory):
    """The same training in this process without any of it."""
    return train(job_of(tmp_path_factory.mktemp("plain"), base=base, examples=EXAMPLES), identify=identity_of_model)


async def launch(job, extensions, *, at=0, do=None):
    """Run `job` as processes, with `do` called once it is `at` that step. Returns the result and the steps it took."""
    steps: list[int] = []

    def report(name: str, step: int, num_steps: int, loss: float) -> None:
        steps.append(step)
        if step == at:
            do()

    for lock in extensions.glob("*/lock"):  # a killed compilation leaves it, and torch waits for it for ever
        lock.unlink()
    environment = {"OMP_NUM_THREADS": "1", "TORCH_EXTENSIONS_DIR": str(extensions)}
    launcher = SubprocessLauncher(report=report, environment=environment)
    return await launcher.run(training_job.job_of(job, name="train:arm")), steps


def signal_rank(folder: Path, rank: int, number: signal.Signals) -> None:
    """Send a signal to one process of the training in `folder`."""
    wanted = [b"tracemend.trainer.job", str(folder / "job.json").encode()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[-3:-1] == wanted and f"RANK={rank}".encode() in variables:
            os.kill(int(process.name), number)
            return
    raise AssertionError(f"process {rank} is not there")


def assert_whole(job, base) -> None:
    """The exported weights have the size of the base's: no process kept its part to itself."""
    ours, theirs = (folder.joinpath("model.safetensors").stat().st_size for folder in (job.folder / "model", base))
    assert ours == pytest.approx(theirs, rel=0.01)


def test_a_cancelled_training_with_deepspeed_goes_on_after_the_step_that_it_was_in(
    base, expected, extensions, tmp_path
):
    job = job_of(tmp_path, base=base, examples=EXAMPLES, deepspeed="zero3", launcher="subprocess")

    async def stopped() -> None:
        work = asyncio.current_task()
        await launch(job, extensions, at=8, do=work.cancel)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stopped())
    checkpoint, steps = asyncio.run(launch(job, extensions))
    assert steps[0] >= 9
    assert checkpoint.final_loss == pytest.approx(expected.final_loss, rel=1e-4)
    assert_whole(job, base)


def test_two_processes_train_on_the_same_steps_as_one_and_go_on_after_sigterm(base, expected, extensions, tmp_path):
    job = job_of(tmp_path, base=base, examples=EXAMPLES, **TWO)
    with pytest.raises(Preempted, match="told to stop after step"):
        asyncio.run(launch(job, extensions, at=4, do=lambda: signal_rank(job.folder, 1, signal.SIGTERM)))
    checkpoint, steps = asyncio.run(launch(job, extensions))
    assert steps == list(range(steps[0], 13))
    assert steps[0] >= 5
    assert checkpoint.final_loss == pytest.approx(expected.final_loss, rel=1e-4)


@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_two_processes_with_deepspeed_survive_the_death_of_one(base, expected, extensions, tmp_path, stage):
    job = job_of(tmp_path, base=base, examples=EXAMPLES, deepspeed=stage, save_steps=3, **TWO)
    with pytest.raises(Reject, match="process 1 was ended by SIGKILL first"):
        asyncio.run(launch(job, extensions, at=8, do=lambda: signal_rank(job.folder, 1, signal.SIGKILL)))
    checkpoint, steps = asyncio.run(launch(job, extensions))
    assert steps in (list(range(7, 13)), list(range(10, 13)))
    assert checkpoint.final_loss == pytest.approx(expected.final_loss, rel=1e-4)
    assert_whole(job, base)


@pytest.mark.parametrize("settings", [{"deepspeed": "zero2"}, {"num_processes": 2}])
def test_several_processes_and_deepspeed_need_the_subprocess_launcher(settings):
    with pytest.raises(ValueError, match="launcher: subprocess"):
        TrainSettings(**settings)
