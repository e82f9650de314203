"""The preference loss: hand-computed, equal to TRL's own, blind before the cut, and the same in both layouts."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from tests.contract import tiny_models
from tests.unit.trainer.pair_builders import TEMPLATE, TOKENIZER, pair_of, rows_of

from tracemend.trainer.algorithm import TrainerInputs, make_algorithm
from tracemend.trainer.pair_batches import collate
from tracemend.trainer.pair_rows import PairRow
from tracemend.trainer.preference import Terms, pair_losses, span_sums
from tracemend.trainer.settings import TrainSettings

LN2 = math.log(2)
SUM = Terms(beta=0.1, alpha=0.0, reduction="sum")
# The short ones lie in one row of the shared layout.
PAIRS = [pair_of(number, shared=shared) for number, shared in enumerate((90, 2, 3, 20))]


@pytest.fixture(scope="module", params=tiny_models.ARCHITECTURES)
def model(request, tmp_path_factory):
    return load(tiny_models.build(tmp_path_factory.mktemp("model") / request.param, request.param, seed=1))


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("model") / "llama", seed=1)


def load(folder: Path):
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def log_probs_of(model, batch):
    """(R, T) from whole logits, without the fused head that training uses; and the logits themselves."""
    import torch

    logits = model(**{name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}).logits
    labels = batch["shift_labels"].clamp(min=0)
    return torch.log_softmax(logits, -1).gather(-1, labels[..., None])[..., 0], logits


def loss_of(model, rows, terms, *, layout="plain", reference=None):
    import torch

    batch = collate(rows, layout=layout, pad=0, mask_as_float=model.config._attn_implementation == "eager")
    batch["reference"] = torch.zeros(len(rows), 2) if reference is None else torch.tensor(reference)
    log_probs, logits = log_probs_of(model, batch)
    return pair_losses(log_probs, batch, terms), logits, batch


def gradients(model, loss):
    model.zero_grad()
    loss.mean().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def assert_close(ours, theirs, *, relative=1e-5):
    """Each tensor's difference is at most `relative` of it, in the Euclidean norm."""
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert (value - theirs[name]).norm() <= relative * value.norm(), name


# ------------------------------------------------------------------------------------------ by hand


def test_two_pairs_computed_by_hand():
    """Prompt of one token, h = 1. Log-probabilities are set, so every number below can be checked with a pen."""
    import torch

    def row(chosen, rejected):
        ends = {"chosen_end": len(chosen), "rejected_end": len(rejected), "nll_start": 1, "nll_end": len(chosen)}
        ids = {"prompt_ids": (1,), "chosen_ids": chosen, "rejected_ids": rejected}
        return PairRow(pair=PAIRS[0], prefix=1, **ids, **ends)

    batch = collate([row((5, 6, 7), (5, 8)), row((5, 6), (5, 8, 9))], layout="plain", pad=0)
    # Rows: chosen and rejected of the first pair, then of the second. The first column predicts token 5, the prefix.
    log_probs = torch.tensor([[-9.0, -1.0, -2.0], [-9.0, -0.5, -9.0], [-9.0, -3.0, -9.0], [-9.0, -1.0, -0.25]])
    batch["reference"] = torch.tensor([[-2.0, -1.0], [-4.0, -2.0]])
    # m: chosen −3 + 2 = −1, rejected −0.5 + 1 = 0.5; chosen −3 + 4 = 1, rejected −1.25 + 2 = 0.75.
    losses = pair_losses(log_probs, batch, Terms(beta=0.5, alpha=0.2, reduction="sum"))
    preference = [math.log(1 + math.exp(-0.5 * margin)) for margin in (-1.5, 0.25)]
    assert losses.nll.tolist() == pytest.approx([1.5, 3.0])
    assert losses.loss.tolist() == pytest.approx([preference[0] + 0.2 * 1.5, preference[1] + 0.2 * 3.0])
    # Means: −1/2 and 0.5/1; 1/1 and 0.75/2.
    losses = pair_losses(log_probs, batch, Terms(beta=0.5, alpha=0.0, reduction="mean_span"))
    expected = [math.log(1 + math.exp(-0.5 * margin)) for margin in (-1.0, 0.625)]
    assert losses.loss.tolist() == pytest.approx(expected)


# ------------------------------------------------------------------------------------------ identities


@pytest.mark.parametrize("reduction", ["sum", "mean_span"])
@pytest.mark.parametrize("nll", ["span", "response"])
def test_at_the_start_the_loss_is_ln_2_and_alpha_times_the_likelihood(model, reduction, nll):
    import torch

    rows = rows_of(PAIRS, nll=nll)
    batch = collate(rows, layout="plain", pad=0)
    with torch.no_grad():
        reference = span_sums(log_probs_of(model, batch)[0], batch, len(rows))
        losses, _, _ = loss_of(
            model, rows, Terms(beta=0.3, alpha=0.2, reduction=reduction), reference=reference.tolist()
        )
    assert losses.loss.tolist() == pytest.approx((LN2 + 0.2 * losses.nll).tolist(), rel=1e-6)
    assert all(value > 0.1 for value in losses.nll.tolist())


@pytest.mark.parametrize("reach", ["reasoning", "response"])
@pytest.mark.parametrize("layout", ["plain", "shared"])
def test_logits_before_the_cut_get_no_gradient(model, layout, reach):
    rows = rows_of(PAIRS, reach=reach)
    losses, logits, batch = loss_of(model, rows, Terms(beta=0.1, alpha=0.2, reduction="sum"), layout=layout)
    logits.retain_grad()
    losses.loss.mean().backward()
    is_counted = batch["sides"] >= 0
    assert (logits.grad[~is_counted] == 0).all()
    assert (logits.grad[is_counted].abs().sum(-1) > 0).all()
    assert is_counted.sum() == sum(r.chosen_end + r.rejected_end - 2 * r.prefix for r in rows)


def test_a_likelihood_of_the_whole_response_reaches_before_the_cut(model):
    rows = rows_of(PAIRS[:1], nll="response")
    losses, logits, batch = loss_of(model, rows, Terms(beta=0.1, alpha=0.2, reduction="sum"))
    logits.retain_grad()
    losses.loss.mean().backward()
    assert (logits.grad[(batch["sides"] < 0) & (batch["likelihoods"] == 0)].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("layout", ["plain", "shared"])
def test_full_and_partial_preference_are_one_under_summed_log_probabilities(model, layout):
    """In double precision, but for norms, which stay in fp32: rounding of a long prefix shows otherwise."""
    model.double()
    partial, full = rows_of(PAIRS, reach="response"), rows_of(PAIRS, start="response", reach="response")
    ours, _, _ = loss_of(model, partial, SUM, layout=layout)
    theirs, _, _ = loss_of(model, full, SUM, layout=layout)
    assert ours.loss.tolist() == pytest.approx(theirs.loss.tolist(), rel=1e-6)
    assert_close(gradients(model, ours.loss), gradients(model, theirs.loss), relative=1e-5)
    model.float()


@pytest.mark.parametrize("layout", ["plain", "shared"])
def test_they_are_one_in_single_precision_too_but_for_rounding(model, layout):
    partial, full = (rows_of(PAIRS[1:], reach="response", start=start) for start in ("cut", "response"))
    ours, theirs = (loss_of(model, rows, SUM, layout=layout)[0] for rows in (partial, full))
    assert ours.loss.tolist() == pytest.approx(theirs.loss.tolist(), rel=1e-4)
    assert_close(gradients(model, ours.loss), gradients(model, theirs.loss), relative=1e-4)


def test_full_and_partial_preference_differ_under_means(model):
    mean = dataclasses.replace(SUM, reduction="mean_span")
    partial, full = rows_of(PAIRS, reach="response"), rows_of(PAIRS, start="response", reach="response")
    ours, theirs = (loss_of(model, rows, mean)[0].loss for rows in (partial, full))
    assert (ours - theirs).abs().min() > 1e-4


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("reduction", ["sum", "mean_span"])
@pytest.mark.parametrize("spans", [{}, {"reach": "response", "nll": "response"}, {"start": "response"}])
def test_both_layouts_have_the_same_loss_and_gradients(model, attention, reduction, spans):
    model.set_attn_implementation(attention)
    rows, terms = rows_of(PAIRS, **spans), Terms(beta=0.1, alpha=0.2, reduction=reduction)
    plain, _, _ = loss_of(model, rows, terms)
    shared, _, _ = loss_of(model, rows, terms, layout="shared")
    assert shared.loss.tolist() == pytest.approx(plain.loss.tolist(), rel=1e-5)
    assert_close(gradients(model, plain.loss), gradients(model, shared.loss))
    model.set_attn_implementation("sdpa")


# ------------------------------------------------------------------------------------------ against TRL


def inputs_for(rows, folder: Path, tmp_path: Path, *, schedule=None, peft=None, **settings) -> TrainerInputs:
    from tracemend.trainer.arguments import training_arguments

    chosen = TrainSettings(**{"algorithm": "intervened_po", "batch_size": len(rows), "epochs": 1, **settings})
    return TrainerInputs(
        pairs=rows,
        schedule=list(range(len(rows))) if schedule is None else schedule,
        model=load(folder),
        tokenizer=TOKENIZER,
        template=TEMPLATE,
        parent="base",
        shared=tmp_path / "shared",
        peft=peft,
        arguments=training_arguments(chosen, folder=tmp_path / "work", num_steps=1),
        callbacks=(),
        settings=chosen,
    )


def disturbed(model):
    """The model moved away from its reference, the same way every time."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    return model


def trl_trainer(rows, folder: Path, tmp_path: Path, **config):
    """TRL's DPOTrainer as it comes, on prompt and prefix as its prompt and the spans as its completions."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Tokenised(DPOTrainer):
        def _prepare_dataset(self, dataset, *_):
            return dataset

    columns = {
        "prompt_ids": [list(row.prompt_ids + row.chosen_ids[: row.prefix]) for row in rows],
        "chosen_ids": [list(row.chosen_ids[row.prefix : row.chosen_end]) for row in rows],
        "rejected_ids": [list(row.rejected_ids[row.prefix : row.rejected_end]) for row in rows],
    }
    arguments = {"output_dir": str(tmp_path), "use_cpu": True, "report_to": "none", "bf16": False, "max_length": None}
    return Tokenised(
        model=load(folder),
        ref_model=load(folder),
        args=DPOConfig(**arguments, beta=0.1, per_device_train_batch_size=len(rows), **config),
        train_dataset=Dataset.from_dict(columns),
        processing_class=TOKENIZER,
    )


@pytest.mark.slow
@pytest.mark.parametrize("shared_prefix", ["on", "off"])
@pytest.mark.parametrize("reach", ["reasoning", "response"])
def test_loss_and_gradients_are_those_of_trls_own_trainer(reach, shared_prefix, llama_folder, tmp_path):
    """The same pairs, split at the cut: α = 0 on a batch, α = 0.2 pair by pair, where the two means of NLL agree."""
    for rows, alpha in ((rows_of(PAIRS, reach=reach), 0.0), (rows_of(PAIRS[3:], reach=reach), 0.2)):
        weighted = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, alpha]} if alpha else {}
        theirs = trl_trainer(rows, llama_folder, tmp_path, **weighted)
        options = {"alpha": alpha, "dpo_span": reach, "shared_prefix": shared_prefix}
        ours = make_algorithm(TrainSettings(algorithm="intervened_po", options=options)).trainer(
            inputs_for(rows, llama_folder, tmp_path)
        )
        losses, found = [], []
        for trainer in (ours, theirs):
            disturbed(trainer.model)
            batch = trainer.data_collator([trainer.train_dataset[at] for at in range(len(rows))])
            loss = trainer.compute_loss(trainer.model, batch)
            losses.append(loss.item())
            found.append(gradients(trainer.model, loss))
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        assert abs(losses[0] - LN2) > 1e-3
        assert_close(found[0], found[1], relative=1e-4)


@pytest.mark.slow
def test_the_reference_is_computed_once_and_is_the_model_without_its_adapter(llama_folder, tmp_path, caplog):
    from peft import LoraConfig

    rows, options = rows_of(PAIRS), {"alpha": 0.0}
    algorithm = make_algorithm(TrainSettings(algorithm="intervened_po", options=options))
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    full = algorithm.trainer(inputs_for(rows, llama_folder, tmp_path))
    (file,) = (tmp_path / "shared").iterdir()
    written = file.read_bytes()
    adapted = algorithm.trainer(inputs_for(rows, llama_folder, tmp_path, peft=lora))
    assert adapted.data_collator.reference == full.data_collator.reference
    file.unlink()
    adapted = algorithm.trainer(inputs_for(rows, llama_folder, tmp_path, peft=lora))
    assert file.read_bytes() == written, "an adapter had a part in the reference"
    batch = adapted.data_collator([{"row": at} for at in range(len(rows))])
    assert abs(adapted.compute_loss(adapted.model, batch).item() - LN2) > 1e-4, "the adapter does nothing"
    file.write_bytes(written.replace(b"-", b"-1", 1))
    again = algorithm.trainer(inputs_for(rows, llama_folder, tmp_path))
    assert again.data_collator.reference == full.data_collator.reference
    assert "damaged" in caplog.text


@pytest.mark.slow
def test_another_parent_span_or_pair_has_another_reference(llama_folder, tmp_path):
    rows = rows_of(PAIRS)
    algorithm = make_algorithm(TrainSettings(algorithm="intervened_po"))
    changes = [
        inputs_for(rows, llama_folder, tmp_path),
        dataclasses.replace(inputs_for(rows, llama_folder, tmp_path), parent="other"),
        inputs_for(rows_of(PAIRS, reach="response"), llama_folder, tmp_path),
        inputs_for(rows[1:], llama_folder, tmp_path, batch_size=4),
    ]
    for number, inputs in enumerate(changes, start=1):
        algorithm.trainer(inputs)
        assert len(list((tmp_path / "shared").iterdir())) == number


def test_options_are_checked_by_name_and_value():
    from tracemend.kit.errors import SetupError

    with pytest.raises(SetupError, match="its options are beta, alpha"):
        make_algorithm(TrainSettings(algorithm="intervened_po", options={"betta": 0.1}))
    with pytest.raises(SetupError, match="option 'reduction'"):
        make_algorithm(TrainSettings(algorithm="intervened_po", options={"reduction": "mean"}))
    for name, value in [("beta", 0), ("beta", math.inf), ("alpha", -0.1), ("alpha", math.nan)]:
        with pytest.raises(SetupError, match=f"option '{name}'"):
            make_algorithm(TrainSettings(algorithm="intervened_po", options={name: value}))
    with pytest.raises(SetupError, match="intervened_po"):
        make_algorithm(TrainSettings(algorithm="intervened_p0"))
    assert isinstance(make_algorithm(TrainSettings()).options, dict)
