"""Training on pairs through the whole job: it learns the preference, survives being killed, and needs one model."""

from __future__ import annotations

import dataclasses
import multiprocessing
import random
from pathlib import Path

import pytest
from tests.contract import tiny_models
from tests.unit.trainer.pair_builders import pair_job, pair_of
from tests.unit.trainer.test_trainer_training import LORA, Stopped, elsewhere, run, stop_at
from tests.unit.trainer.test_trainer_training import _start as start_alone
from tests.unit.trainer.trainer_builders import example_of, job_of

from tracemend.kit.errors import SetupError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

PAIRS = [pair_of(number, shared=4 + number % 12) for number in range(20)]
MIXED = [*PAIRS[:6], *(pair_of(number, kind="benign", shared=0) for number in range(20, 30))]
NUM_KILLS = 4


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("models") / "llama")


@pytest.mark.parametrize("algorithm", ["intervened_po", "dpo"])
@pytest.mark.parametrize("architecture", tiny_models.ARCHITECTURES)
def test_every_architecture_learns_the_preference(algorithm, architecture, tmp_path):
    folder = tiny_models.build(tmp_path / "base", architecture)
    job = pair_job(tmp_path / "job", base=folder, pairs=PAIRS, algorithm=algorithm, epochs=8, learning_rate=3e-3)
    checkpoint = run(job)
    alpha = 0.2 if algorithm == "intervened_po" else 0.0
    start = checkpoint.metrics["first_loss"] - alpha * checkpoint.metrics["first/nll"]
    assert start == pytest.approx(0.6931, abs=1e-3)
    assert checkpoint.metrics["first/rewards/margins"] == pytest.approx(0, abs=1e-3)
    assert checkpoint.metrics["last/rewards/margins"] > 1
    assert checkpoint.metrics["last/rewards/accuracies"] > 0.9


def test_a_second_stage_trains_on_a_mix_and_starts_from_the_first(base, tmp_path):
    first = pair_job(tmp_path / "one", base=base, pairs=PAIRS, epochs=4)
    stage_one = run(first)
    second = pair_job(tmp_path / "two", base=first.root / stage_one.path, pairs=MIXED, epochs=4)
    second = dataclasses.replace(second, parent=stage_one.model)
    stage_two = run(second)
    assert stage_two.metrics["first/rewards/margins"] == pytest.approx(0, abs=1e-4), "the reference is not its parent"
    assert stage_two.parent == stage_one.model


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("shared_prefix", ["on", "off"])
def test_an_interrupted_training_ends_in_the_same_weights(lora, shared_prefix, base, tmp_path):
    options = {"shared_prefix": shared_prefix}
    job = pair_job(tmp_path / "job", base=base, pairs=PAIRS, save_steps=2, lora=lora, options=options)
    expected = run(job)
    again = elsewhere(job, "again")
    for step in (1, 4, 7):
        with pytest.raises(Stopped):
            run(again, stop_at(step))
    seen = []
    result = run(again, lambda step, *_: seen.append(step))
    assert seen == [7, 8, 9, 10]
    assert (result.model, result.final_loss) == (expected.model, expected.final_loss)


def test_a_training_killed_at_random_moments_ends_in_the_same_weights(base, tmp_path):
    job = pair_job(tmp_path / "job", base=base, pairs=PAIRS, epochs=10, save_steps=2)
    again = pair_job(tmp_path / "again", base=base, pairs=PAIRS, epochs=10, save_steps=2)
    expected = run(job)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trl.trainer.dpo_trainer", "peft", "tracemend.trainer.training", "datasets"])
    rng = random.Random(0)
    for _ in range(NUM_KILLS):
        process = start_alone(context, again)
        process.join(timeout=rng.uniform(0.0, 2.0))
        assert process.exitcode is None, "the training was over before it could be killed: make it longer"
        process.kill()
        process.join()
    process = start_alone(context, again)
    process.join()
    assert process.exitcode == 0
    result = run(again, stop_at(1))
    assert (result.model, result.final_loss) == (expected.model, expected.final_loss)


def test_accumulated_batches_make_the_same_steps(base, tmp_path):
    whole = pair_job(tmp_path / "job", base=base, pairs=PAIRS, batch_size=8)
    parts = elsewhere(whole, "parts", batch_size=2, gradient_accumulation=4)
    assert run(parts).final_loss == pytest.approx(run(whole).final_loss, rel=1e-4)


def test_both_layouts_train_to_the_same_loss(base, tmp_path):
    job = pair_job(tmp_path / "job", base=base, pairs=PAIRS, options={"shared_prefix": "off"})
    shared = elsewhere(job, "shared", options={"shared_prefix": "on"})
    assert run(shared).final_loss == pytest.approx(run(job).final_loss, rel=1e-4)


def test_candidates_of_a_sweep_share_the_reference(base, tmp_path):
    job = pair_job(tmp_path / "job", base=base, pairs=PAIRS, epochs=1)
    run(job)
    (file,) = (job.root / "references").iterdir()
    written = file.stat().st_mtime_ns
    run(elsewhere(job, "other", learning_rate=5e-4))
    assert [path.stat().st_mtime_ns for path in (job.root / "references").iterdir()] == [written]


def test_a_dataset_of_the_other_kind_is_refused(base, tmp_path):
    pairs = pair_job(tmp_path / "pairs", base=base, pairs=PAIRS, algorithm="sft")
    with pytest.raises(
        SetupError, match=r"'sft' learns from examples and .* holds pairs: set assemble\.kind: examples"
    ):
        run(pairs)
    examples = job_of(tmp_path / "rows", base=base, examples=[example_of(1)], algorithm="dpo")
    with pytest.raises(SetupError, match=r"assemble\.kind: pairs"):
        run(examples)


def test_settings_that_would_change_sampled_rows_are_refused(base, tmp_path):
    job = pair_job(tmp_path / "job", base=base, pairs=PAIRS, truncation="keep_start", render="plain")
    with pytest.raises(SetupError, match="take render: plain, truncation: keep_start out of train"):
        run(job)


def test_the_gate_stands_before_any_step(base, tmp_path):
    job = pair_job(tmp_path / "job", base=base, pairs=PAIRS, max_length=30)
    with pytest.raises(SetupError, match="pair_too_long"):
        run(job, stop_at(1))


def test_other_options_are_another_training(base, tmp_path):
    job = pair_job(tmp_path / "job", base=base, pairs=PAIRS, epochs=1)
    first = run(job)
    assert run(job, stop_at(1)) == first
    with pytest.raises(Stopped):
        run(dataclasses.replace(job, settings=job.settings.model_copy(update={"options": {"beta": 0.2}})), stop_at(1))
