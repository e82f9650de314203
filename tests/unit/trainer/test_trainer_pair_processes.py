"""Training on pairs in processes of its own: the reference is gathered from all of them, and the steps are the same."""

from __future__ import annotations

import asyncio

import pytest
from tests.contract import tiny_models
from tests.unit.trainer.pair_builders import pair_job, pair_of
from tests.unit.trainer.test_trainer_processes import launch

from tracemend.runtime.jobs import identity_of_model
from tracemend.trainer.training import train

pytestmark = pytest.mark.slow

# An odd number: the last batch of the reference is not full in every process.
PAIRS = [pair_of(number, shared=4 + number % 12) for number in range(19)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_models.build(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def expected(base, tmp_path_factory):
    """The same training in this process without any of it."""
    job = pair_job(tmp_path_factory.mktemp("plain"), base=base, pairs=PAIRS, epochs=4)
    return train(job, identify=identity_of_model)


@pytest.mark.parametrize(
    "settings", [{"deepspeed": "zero3"}, {"num_processes": 2, "batch_size": 2}], ids=["deepspeed", "two-processes"]
)
def test_several_processes_and_deepspeed_take_the_same_steps(settings, base, expected, extensions, tmp_path):
    job = pair_job(tmp_path, base=base, pairs=PAIRS, epochs=4, launcher="subprocess", **settings)
    checkpoint, steps = asyncio.run(launch(job, extensions))
    assert steps == list(range(1, 20))
    assert checkpoint.metrics["first_loss"] == pytest.approx(expected.metrics["first_loss"], rel=1e-4)
    assert checkpoint.final_loss == pytest.approx(expected.final_loss, rel=1e-3)
