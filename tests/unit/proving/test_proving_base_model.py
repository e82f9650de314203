"""Training runs here are real but tiny: a few steps on a few hundred documents."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from tracemend.proving.base_model import BaseConfig, ensure_model, is_sound
from tracemend.proving.corpus import CorpusConfig
from tracemend.proving.process import ProcessConfig
from tracemend.proving.training import ShapeConfig, TrainingConfig, learning_rate, make_batches
from tracemend.proving.world import WorldConfig

TINY = BaseConfig(
    corpus=CorpusConfig(num_documents=300),
    shape=ShapeConfig(hidden=32, num_layers=1, num_heads=1, mlp=32),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bases")


@pytest.fixture(scope="module")
def steps() -> list[tuple[int, int, float]]:
    return []


@pytest.fixture(scope="module")
def folder(cache, steps) -> Path:
    return ensure_model(TINY, cache=cache, num_threads=1, progress=lambda *step: steps.append(step))


def test_a_trained_folder_loads_as_any_model_and_answers(folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.model_type == "llama"
    assert model.config.vocab_size == len(tokenizer)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": "what is 1 + 2 - 3 ?"}], add_generation_prompt=True, return_tensors="pt"
    )
    output = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert output.shape[1] <= inputs["input_ids"].shape[1] + 5
    with torch.no_grad():
        assert torch.isfinite(model(**inputs).logits).all()
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_training_lowers_the_loss_and_reports_its_progress(folder, steps):
    assert steps[-1][0] == steps[-1][1]
    assert [step for step, _, _ in steps] == sorted({step for step, _, _ in steps})
    assert steps[-1][2] < steps[0][2]
    assert json.loads((folder / "proving_ground.json").read_text())["final_loss"] < steps[0][2]


def test_a_second_call_takes_the_model_from_the_cache(folder, cache):
    before = (folder / "model.safetensors").stat().st_mtime_ns
    calls: list[int] = []
    assert ensure_model(TINY, cache=cache, progress=lambda *step: calls.append(1)) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert not calls


@pytest.mark.parametrize(
    "change",
    [
        {"world": WorldConfig(seed=1)},
        {"process": ProcessConfig(turn_back=0.5)},
        {"corpus": CorpusConfig(num_documents=301)},
        {"shape": ShapeConfig(hidden=64)},
        {"training": TrainingConfig(seed=1)},
    ],
)
def test_whatever_is_changed_is_another_model(change):
    fields = {"world": TINY.world, "process": TINY.process, "corpus": TINY.corpus, "shape": TINY.shape} | change
    assert BaseConfig(**fields).digest() != TINY.digest()


def test_the_same_configuration_gives_the_same_weights(folder, tmp_path):
    again = ensure_model(TINY, cache=tmp_path, num_threads=1)
    assert again.name == folder.name
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_training_leaves_threads_and_random_state_as_they_were(tmp_path):
    import torch

    torch.manual_seed(7)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    small = BaseConfig(corpus=CorpusConfig(num_documents=20), shape=TINY.shape)
    ensure_model(small, cache=tmp_path, num_threads=threads + 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("damage", ["truncate", "remove", "provenance"])
def test_a_damaged_folder_is_trained_anew(folder, cache, damage):
    wanted = (folder / "model.safetensors").read_bytes()
    if damage == "truncate":
        (folder / "model.safetensors").write_bytes(wanted[:1000])
    elif damage == "remove":
        (folder / "tokenizer.json").unlink()
    else:
        (folder / "proving_ground.json").write_text("{")
    assert not is_sound(folder)
    assert ensure_model(TINY, cache=cache, num_threads=1) == folder
    assert is_sound(folder)
    assert (folder / "model.safetensors").read_bytes() == wanted


def test_batches_hold_every_document_once_within_the_budget():
    encoded = [[number] * (1 + number % 40) for number in range(500)]
    batches = make_batches(encoded, TrainingConfig(batch_tokens=100))
    assert sorted(map(tuple, (document for batch in batches for document in batch))) == sorted(map(tuple, encoded))
    assert all(len(batch) * max(map(len, batch)) <= 100 for batch in batches)
    assert make_batches([[1] * 300], TrainingConfig(batch_tokens=100)) == [[[1] * 300]]


def test_the_learning_rate_warms_up_and_comes_down():
    config = TrainingConfig(peak_rate=1.0, warmup_share=0.1, final_share=0.05)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[9] == 1.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0.05 <= rates[-1] < 0.06
    assert learning_rate(0, 1, config) == 1.0


def _train_and_count(cache: str, results: "multiprocessing.Queue[tuple[str, int]]") -> None:
    steps: list[int] = []
    made = ensure_model(TINY, cache=Path(cache), num_threads=1, progress=lambda step, *_: steps.append(step))
    results.put((str(made), len(steps)))


def _train_until_killed(cache: str, marker: str) -> None:
    def halt(*_: object) -> None:
        Path(marker).touch()
        time.sleep(600)

    ensure_model(TINY, cache=Path(cache), num_threads=1, progress=halt)


@pytest.mark.slow
def test_two_processes_that_want_one_model_train_it_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_train_and_count, args=(str(tmp_path), results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=400) for _ in processes]
    for process in processes:
        process.join()
    assert found[0][0] == found[1][0]
    assert sorted(num_steps > 0 for _, num_steps in found) == [False, True]


@pytest.mark.slow
def test_a_killed_training_leaves_nothing_that_is_taken_for_a_model(tmp_path):
    cache, marker = tmp_path / "bases", tmp_path / "training"
    process = multiprocessing.get_context("spawn").Process(target=_train_until_killed, args=(str(cache), str(marker)))
    process.start()
    deadline_s = time.monotonic() + 400
    while not marker.exists():
        assert time.monotonic() < deadline_s, "the training never began"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not [path for path in cache.iterdir() if is_sound(path)]
    # A kill while the files are written would leave a draft.
    (lock,) = cache.glob("*.lock")
    draft = lock.with_suffix(".draft")
    draft.mkdir()
    (draft / "model.safetensors").write_bytes(b"half a mod")
    made = ensure_model(TINY, cache=cache, num_threads=1)
    assert is_sound(made)
    assert not draft.exists()
