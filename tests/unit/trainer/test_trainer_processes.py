"""Training in processes of its own: DeepSpeed and data parallelism on CPU, launched as a cluster would."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.contract import tiny_models
from tests.unit.trainer.trainer_builders import example_of, job_of

from tracemend.adapters.launchers import SubprocessLauncher
from tracemend.runtime.jobs import identity_of_model
from tracemend.trainer import job as training_job
from tracemend.trainer.settings import TrainSettings
from tracemend.trainer.training import train

pytestmark = pytest.mark.slow

EXAMPLES = [example_of(number) for number in range(24)]
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_models.build(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def expected(base, tmp_path_factory):
    """The same training in this process without any of it."""
    return train(job_of(tmp_path_factory.mktemp("plain"), base=base, examples=EXAMPLES), identify=identity_of_model)


async def launch(job, *, cancel_at: int = 0):
    """Run `job` as a process; with `cancel_at`, stop it at that step. Returns the result and the steps it took."""
    steps: list[int] = []

    def report(name: str, step: int, num_steps: int, loss: float) -> None:
        steps.append(step)
        if step == cancel_at:
            task.cancel()

    launcher = SubprocessLauncher(report=report, environment=ENVIRONMENT)
    task = asyncio.create_task(launcher.run(training_job.job_of(job, name="train:arm")))
    with contextlib.suppress(asyncio.CancelledError):
        return await task, steps
    return None, steps


def test_deepspeed_trains_resumes_and_exports_whole_weights(base, expected, tmp_path):
    job = job_of(tmp_path, base=base, examples=EXAMPLES, deepspeed="zero3", launcher="subprocess", save_steps=3)
    stopped, _ = asyncio.run(launch(job, cancel_at=8))
    checkpoint, steps = asyncio.run(launch(job))
    assert stopped is None
    assert steps[0] == 7
    assert checkpoint.final_loss == pytest.approx(expected.final_loss, rel=1e-4)
    sizes = [folder.joinpath("model.safetensors").stat().st_size for folder in (job.folder / "model", base)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


def test_two_processes_train_on_the_same_steps_as_one(base, expected, tmp_path):
    job = job_of(tmp_path, base=base, examples=EXAMPLES, batch_size=2, num_processes=2, launcher="subprocess")
    checkpoint, steps = asyncio.run(launch(job))
    assert steps == list(range(1, 13))
    assert checkpoint.final_loss == pytest.approx(expected.final_loss, rel=1e-4)


@pytest.mark.parametrize("settings", [{"deepspeed": "zero2"}, {"num_processes": 2}])
def test_several_processes_and_deepspeed_need_the_subprocess_launcher(settings):
    with pytest.raises(ValueError, match="launcher: subprocess"):
        TrainSettings(**settings)
