"""Training real, tiny models through TRL: it learns, is a function of its job, and survives being killed."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import random
import shutil
import time
from pathlib import Path

import pytest
from tests.contract import tiny_models
from tests.unit.trainer.trainer_builders import example_of, export_examples, job_of

from tracemend.kit.errors import SetupError
from tracemend.runtime.jobs import identity_of_model
from tracemend.trainer import job as training_job
from tracemend.trainer.checkpoints import SEAL
from tracemend.trainer.training import TrainingJob, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

EXAMPLES = [example_of(number) for number in range(24)]
NUM_KILLS = 6
LORA = {"r": 4, "alpha": 8, "dropout": 0.1, "targets": ("q_proj", "v_proj")}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("models") / "llama")


class Stopped(Exception):
    """What the tests interrupt a training with."""


def stop_at(wanted: int):
    def progress(step: int, num_steps: int, loss: float) -> None:
        if step == wanted:
            raise Stopped

    return progress


def run(job: TrainingJob, progress=None):
    return train(job, identify=identity_of_model, progress=progress)


def elsewhere(job: TrainingJob, name: str, **settings) -> TrainingJob:
    changed = job.settings.model_copy(update=settings)
    return dataclasses.replace(job, folder=job.folder.with_name(name), settings=changed)


@pytest.mark.parametrize("architecture", tiny_models.ARCHITECTURES)
def test_every_architecture_learns_and_is_saved_as_an_ordinary_folder(architecture, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_models.build(tmp_path / "base", architecture)
    before = identity_of_model(folder)
    seen = []
    job = job_of(tmp_path / "job", base=folder, examples=EXAMPLES, epochs=4, learning_rate=5e-3)
    checkpoint = run(job, lambda *step: seen.append(step))
    out = job.root / checkpoint.path
    assert [step for step, _, _ in seen] == list(range(1, 25))
    assert checkpoint.final_loss < 0.5 * checkpoint.metrics["first_loss"]
    assert checkpoint.model == identity_of_model(out) != before
    assert identity_of_model(folder) == before
    AutoModelForCausalLM.from_pretrained(out)
    text = "how do I make bread <think>"
    assert AutoTokenizer.from_pretrained(out)(text) == AutoTokenizer.from_pretrained(folder)(text)
    kept = ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja")
    assert all((out / name).read_bytes() == (folder / name).read_bytes() for name in kept)
    assert not (job.folder / "checkpoints").exists()


def test_the_loss_is_the_mean_over_response_tokens_alone(base, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    from tracemend.traces.template import ChatTemplate

    job = job_of(tmp_path / "job", base=base, examples=EXAMPLES[:4], epochs=1)
    template, model = ChatTemplate.load(base), AutoModelForCausalLM.from_pretrained(base)
    total, number = 0.0, 0
    for example in EXAMPLES[:4]:
        prompt, response = template.render_training(example.prompt.text, example.reasoning, example.answer)
        with torch.no_grad():
            logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, torch.tensor(response), reduction="sum").item()
        number += len(response)
    assert run(job).final_loss == pytest.approx(total / number, rel=1e-5)


def test_a_system_prompt_is_trained_with_and_makes_another_training(base, tmp_path):
    plain = job_of(tmp_path / "job", base=base, examples=EXAMPLES[:8], epochs=1)
    told = dataclasses.replace(plain, system="let me think first.")
    before = run(plain)
    after = run(told)
    num_more = len(EXAMPLES[:8]) * _num_added(base, told.system)
    assert after.metrics["tokens"] == before.metrics["tokens"] + num_more > before.metrics["tokens"]
    assert after.id != before.id
    assert after.model != before.model
    assert run(told).metrics["seconds"] == after.metrics["seconds"], "the finished result is found again"


def _num_added(base: Path, system: str) -> int:
    from tracemend.traces.template import ChatTemplate

    template, asked = ChatTemplate.load(base), EXAMPLES[0].prompt.text
    return len(template.prompt_tokens(asked, system=system)) - len(template.prompt_tokens(asked))


def test_accumulated_batches_make_the_same_steps(base, tmp_path):
    whole = job_of(tmp_path / "job", base=base, examples=EXAMPLES, batch_size=8)
    parts = elsewhere(whole, "parts", batch_size=2, gradient_accumulation=4)
    assert run(parts).final_loss == pytest.approx(run(whole).final_loss, rel=1e-4)


def test_the_exported_model_answers_as_base_and_adapter_do(base, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    job = job_of(tmp_path / "job", base=base, examples=EXAMPLES, epochs=2, learning_rate=5e-2, lora=LORA)
    merged = AutoModelForCausalLM.from_pretrained(job.root / run(job).path)
    before = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        untrained = before(ids).logits
        adapted = PeftModel.from_pretrained(before, str(job.folder / "adapter"))(ids).logits
        exported = merged(ids).logits
    assert torch.allclose(exported, adapted, atol=1e-3)
    assert not torch.allclose(exported, untrained, atol=0.1)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_an_interrupted_training_ends_in_the_same_weights(lora, base, tmp_path):
    job = job_of(tmp_path / "job", base=base, examples=EXAMPLES, save_steps=2, lora=lora)
    expected = run(job)
    again = elsewhere(job, "again")
    for step in (1, 4, 5, 9):
        with pytest.raises(Stopped):
            run(again, stop_at(step))
    seen = []
    result = run(again, lambda step, *_: seen.append(step))
    assert seen == [9, 10, 11, 12]
    assert (result.model, result.final_loss) == (expected.model, expected.final_loss)


def test_a_training_killed_at_random_moments_ends_in_the_same_weights(base, tmp_path):
    job = job_of(tmp_path / "job", base=base, examples=EXAMPLES, epochs=10, save_steps=2)
    expected = run(job)
    again = elsewhere(job, "again")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trl.trainer.sft_trainer", "peft", "tracemend.trainer.training", "datasets"])
    rng = random.Random(0)
    for _ in range(NUM_KILLS):
        process = _start(context, again)
        process.join(timeout=rng.uniform(0.0, 2.0))
        assert process.exitcode is None, "the training was over before it could be killed: make it longer"
        process.kill()
        process.join()
    process = _start(context, again)
    process.join()
    assert process.exitcode == 0
    result = run(again, stop_at(1))
    assert (result.model, result.final_loss) == (expected.model, expected.final_loss)


def _start(context, job: TrainingJob):
    """A process that trains; returns when it has begun to (imports, which take longest, come first)."""
    (job.folder / ".lock").unlink(missing_ok=True)
    process = context.Process(target=_train_alone, args=(job,))
    process.start()
    while not (job.folder / ".lock").exists() and process.is_alive():
        time.sleep(0.01)
    return process


def _train_alone(job: TrainingJob) -> None:
    run(job, lambda *_: time.sleep(0.02))


def test_a_damaged_checkpoint_is_not_resumed_from(base, tmp_path, caplog):
    job = job_of(tmp_path / "job", base=base, examples=EXAMPLES, save_steps=2)
    expected = run(job)
    again = elsewhere(job, "again")
    with pytest.raises(Stopped):
        run(again, stop_at(7))
    weights = again.folder / "checkpoints" / "checkpoint-6" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    seen = []
    assert run(again, lambda step, *_: seen.append(step)).model == expected.model
    assert seen[0] == 5
    assert "model.safetensors does not match its digest" in caplog.text


def test_seconds_count_what_earlier_attempts_took_to_the_checkpoint(base, tmp_path):
    job = job_of(tmp_path / "job", base=base, examples=EXAMPLES, save_steps=2)
    with pytest.raises(Stopped):
        run(job, stop_at(3))
    seal = job.folder / "checkpoints" / "checkpoint-2" / SEAL
    told = json.loads(seal.read_text())
    assert told["seconds"] > 0
    seal.write_text(json.dumps(told | {"seconds": 3600.0}))
    assert 3600 < run(job).metrics["seconds"] < 4000


def test_another_learning_rate_does_not_resume_from_the_old_checkpoint(base, tmp_path):
    job = job_of(tmp_path / "job", base=base, examples=EXAMPLES, save_steps=2)
    with pytest.raises(Stopped):
        run(job, stop_at(7))
    other = dataclasses.replace(job, settings=job.settings.model_copy(update={"learning_rate": 2e-3}))
    seen = []
    run(other, lambda step, *_: seen.append(step))
    assert seen[0] == 1


def test_a_finished_training_returns_at_once_and_a_damaged_result_is_made_again(base, tmp_path):
    job = job_of(tmp_path / "job", base=base, examples=EXAMPLES[:8], epochs=1)
    first = run(job)
    assert run(job, stop_at(1)) == first
    (job.root / first.path / "config.json").write_text(json.dumps({}))
    with pytest.raises(Stopped):
        run(job, stop_at(1))
    shutil.rmtree(job.root / first.path)
    assert run(job).model == first.model


def test_the_seed_and_the_data_change_the_weights(base, tmp_path):
    job = job_of(tmp_path / "job", base=base, examples=EXAMPLES, epochs=1)
    other_rows = dataclasses.replace(
        job, folder=tmp_path / "c", dataset=export_examples(EXAMPLES[1:], tmp_path / "fewer")
    )
    assert len({run(job).model, run(elsewhere(job, "seed", seed=1)).model, run(other_rows).model}) == 3


def test_a_loss_that_is_no_number_stops_the_training(base, tmp_path):
    job = job_of(tmp_path / "job", base=base, examples=EXAMPLES, learning_rate=1e30, warmup_share=0.0)
    with pytest.raises(SetupError, match=r"lower train\.learning_rate"):
        run(job)


def test_the_gate_stands_before_any_step(base, tmp_path):
    job = job_of(tmp_path / "job", base=base, examples=EXAMPLES, teach_end=False)
    with pytest.raises(SetupError, match="end_not_taught"):
        run(job, stop_at(1))
    overridden = elsewhere(job, "overridden", overrides=("end_not_taught",))
    assert run(overridden).metrics["overridden/end_not_taught"] == len(EXAMPLES)


def test_a_job_travels_as_plain_json(base, tmp_path):
    job = job_of(tmp_path / "job", base=base, examples=EXAMPLES, lora=LORA)
    launched = training_job.job_of(job, name="train:arm")
    arguments = json.loads(json.dumps(launched.arguments))
    assert TrainingJob.from_arguments(arguments, folder=Path(launched.folder)) == job
