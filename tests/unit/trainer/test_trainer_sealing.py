"""Checkpoints are sealed beside the training, one at a time, and a stop waits for the one in flight."""

from __future__ import annotations

import os
import signal

import pytest
from tests.unit.trainer.trainer_builders import example_of, job_of

from tracemend.kit.errors import SetupError
from tracemend.runtime.jobs import Preempted
from tracemend.trainer.checkpoints import newest_sealed
from tracemend.trainer.preemption import Preemption
from tracemend.trainer.sealing import Sealer
from tracemend.trainer.settings import TrainSettings
from tracemend.trainer.training import train


def write(folder, step):
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir()
    (checkpoint / "model.bin").write_bytes(b"weights" * step)
    return checkpoint


def test_leaving_waits_for_the_checkpoint_in_flight_even_on_an_error(tmp_path):
    def stop_in_the_middle():
        with Sealer(fingerprint="this", keep=1) as sealer:
            for step in (1, 2):
                sealer.take(write(tmp_path, step))
            raise KeyError

    with pytest.raises(KeyError):
        stop_in_the_middle()
    assert newest_sealed(tmp_path, fingerprint="this").name == "checkpoint-2"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_a_checkpoint_that_cannot_be_sealed_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), Sealer(fingerprint="this", keep=1) as sealer:
        sealer.take(tmp_path / "checkpoint-1")


def test_a_signal_stops_after_the_step_and_its_handler_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with Preemption() as preemption:
        assert not preemption.stops_after(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.stops_after(2)
    assert signal.getsignal(signal.SIGTERM) is before
    preemption.check(num_steps=2)
    with pytest.raises(Preempted, match="step 2 of 3"):
        preemption.check(num_steps=3)


def test_another_number_of_processes_than_was_planned_is_refused_with_the_arithmetic(tmp_path):
    settings = {"num_processes": 4, "batch_size": 2, "gradient_accumulation": 3, "launcher": "subprocess"}
    job = job_of(tmp_path, base=tmp_path, examples=[example_of(0)], **settings)
    with pytest.raises(SetupError, match="= 6 rows where 24 were meant"):
        train(job, identify=str)


def test_the_clock_for_checkpoints_enters_dumps_only_where_it_is_set():
    assert "checkpoint_every_s" not in TrainSettings().model_dump(mode="json")
    assert TrainSettings(checkpoint_every_s=60).model_dump(mode="json")["checkpoint_every_s"] == 60
