"""The preference loss on spans, and TRL's DPOTrainer taking it: what `intervened_po` and `dpo` share.

L = −log σ(β [m(chosen) − m(rejected)]) + α · NLL(chosen), with m = log π_θ − log π_ref over the tokens of a span
(methods.md §12.1 [P]; the auxiliary term is a mean over its tokens, as in RPO, §12.4 [X]). Each pair's loss depends on
that pair alone, and a batch's loss is the mean over its pairs. Reference log-probabilities are numbers that come with
the batch (`reference`), so one model is in memory.

Where both sides share their prefix token by token and log-probabilities are summed, the prefix cancels in value and
gradient: the loss from the cut on and the loss over whole responses are then one (§12.3 [D]).

Shapes: R rows, T positions, P pairs; two sums per pair, chosen then rejected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tracemend.kit.errors import SetupError
from tracemend.trainer.algorithm import TrainerInputs
from tracemend.trainer.pair_batches import Collator, chosen_layout
from tracemend.trainer.reference import ReferenceFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the loss is made of."""

    beta: float
    alpha: float
    reduction: Literal["sum", "mean_span"]
    """Whether m adds up over its span, or is the mean over it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLosses:
    """Per pair, each of shape (P,)."""

    loss: Any
    chosen: Any
    """m of the chosen side."""
    rejected: Any
    nll: Any


def pair_losses(log_probs_rt: Any, batch: Mapping[str, Any], terms: Terms) -> PairLosses:
    """The loss of each pair of a batch.

    Args:
        log_probs_rt: Log-probability of each label under the model in training.
        batch: What `collate` made, and `reference`, (P, 2): the sums that `span_sums` has under the reference.
        terms: What the loss is made of.
    """
    import torch

    reference_p2 = batch["reference"]
    num_pairs = len(reference_p2)
    ratios_p2 = span_sums(log_probs_rt, batch, num_pairs) - reference_p2
    if terms.reduction == "mean_span":
        ratios_p2 = ratios_p2 / _owned(batch["sides"], 2 * num_pairs).sum((1, 2)).view(num_pairs, 2)
    chosen, rejected = ratios_p2.unbind(1)
    covered = _owned(batch["likelihoods"], num_pairs)
    nll = -torch.where(covered, _precise(log_probs_rt), 0.0).sum((1, 2)) / covered.sum((1, 2)).clamp(min=1)
    preference = -torch.nn.functional.logsigmoid(terms.beta * (chosen - rejected))
    loss = preference + terms.alpha * nll if terms.alpha else preference
    return PairLosses(loss=loss, chosen=chosen, rejected=rejected, nll=nll)


def span_sums(log_probs_rt: Any, batch: Mapping[str, Any], num_pairs: int) -> Any:
    """Log-probability of the chosen and of the rejected span of each pair, (P, 2)."""
    import torch

    owned = _owned(batch["sides"], 2 * num_pairs)
    return torch.where(owned, _precise(log_probs_rt), 0.0).sum((1, 2)).view(num_pairs, 2)


def _precise(log_probs_rt: Any) -> Any:
    """At least fp32, in which sums are taken: in bf16 hundreds of tokens would drown the difference of two sums."""
    import torch

    return log_probs_rt.to(torch.promote_types(log_probs_rt.dtype, torch.float32))


def _owned(owners_rt: Any, number: int) -> Any:
    """For each of `number` owners, the positions that it owns: (number, R, T). A fixed order of addition, on any
    device, unlike a scatter."""
    import torch

    return owners_rt == torch.arange(number, device=owners_rt.device)[:, None, None]


def preference_trainer(inputs: TrainerInputs, terms: Terms, *, shared_prefix: str) -> Any:
    """TRL's DPOTrainer with the loss above, on finished rows: it applies no template, cut or shuffle of its own."""
    import torch
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    layout = chosen_layout(shared_prefix, inputs.pairs, inputs.model)
    tokenizer = inputs.tokenizer
    collator = Collator(
        inputs.pairs,
        layout=layout,
        pad=next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None),
        mask_as_float=inputs.model.config._attn_implementation == "eager",
    )

    class PreferenceTrainer(DPOTrainer):  # type: ignore[misc]  # trl is untyped here
        """Takes rows as they are, and the loss from `pair_losses`."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            log_probs_rt = model(**_model_inputs(inputs), fused_lm_head=True).log_probs
            losses = pair_losses(log_probs_rt, inputs, terms)
            measures = _measures(losses, terms)
            means = self.accelerator.gather(torch.stack(list(measures.values()), dim=1).detach()).mean(0)
            for name, mean in zip(measures, means.tolist(), strict=True):
                self._metrics["train"][name].append(mean)
            return losses.loss.mean()

    trainer = PreferenceTrainer(
        model=inputs.model,
        args=DPOConfig(
            **inputs.arguments,
            beta=terms.beta,
            max_length=None,
            # So TRL keeps no second model, which it does not beside an adapter; the numbers are ours (`reference`).
            precompute_ref_log_probs=inputs.peft is None,
            remove_unused_columns=False,
        ),
        data_collator=collator,
        train_dataset=Dataset.from_dict({"row": list(inputs.schedule)}),
        processing_class=tokenizer,
        peft_config=inputs.peft,
        callbacks=list(inputs.callbacks),
    )
    _score_labels_alone(trainer)
    collator.reference = _reference(inputs, trainer, collator)
    return trainer


def _score_labels_alone(trainer: Any) -> None:
    """TRL's fused head, giving log-probabilities and none of the figures that TRL logs with them."""
    from trl.trainer.utils import add_fused_lm_head

    model = trainer.model
    add_fused_lm_head(model.get_base_model() if hasattr(model, "get_base_model") else model)


def _reference(inputs: TrainerInputs, trainer: Any, collator: Collator) -> list[tuple[float, float]]:
    """The reference's numbers, from the run's folder or computed now by the model before its first step."""
    from accelerate.utils import broadcast_object_list

    arguments = trainer.args
    file = ReferenceFile.of(
        inputs.pairs,
        folder=inputs.shared,
        # All that the numbers are a function of, rounding included.
        causes=[
            inputs.parent,
            inputs.template.identity,
            collator.layout,
            arguments.per_device_train_batch_size,
            bool(arguments.bf16),
            str(inputs.model.dtype),
        ],
    )
    # One process decides: if they disagreed, some would wait for the others for ever.
    found = [file.read() if trainer.is_world_process_zero() else None]
    known = broadcast_object_list(found)[0]
    if known is None:
        known = _computed(trainer, collator, num_pairs=len(inputs.pairs))
        if trainer.is_world_process_zero():
            file.write(known)
    return [(chosen, rejected) for chosen, rejected in known]


def _computed(trainer: Any, collator: Collator, *, num_pairs: int) -> list[tuple[float, float]]:
    """Sums of each pair's spans under the model as it now is, adapters off.

    Raises:
        SetupError: A sum is no finite number.
    """
    import torch
    from torch.utils.data import DataLoader

    model = _placed(trainer)
    numbers = sorted(range(num_pairs), key=collator.num_positions, reverse=True)  # of like length within a batch
    loader = DataLoader(
        [{"row": number} for number in numbers],
        batch_size=trainer.args.per_device_train_batch_size,
        collate_fn=collator,
    )
    sums = []
    was_training = model.training
    model.eval()
    with torch.no_grad(), _without_adapter(trainer), trainer.accelerator.autocast():
        for batch in trainer.accelerator.prepare(loader):
            log_probs_rt = model(**_model_inputs(batch), fused_lm_head=True).log_probs
            part = span_sums(log_probs_rt, batch, len(batch["reference"]))
            sums.append(trainer.accelerator.gather_for_metrics(part).cpu())
    model.train(was_training)
    found = torch.cat(sums)
    if not bool(found.isfinite().all()):
        raise SetupError(
            "the base model gives pairs no finite log-probability: use precision: fp32, or check its weights"
        )
    by_number = dict(zip(numbers, found.tolist(), strict=True))
    return [(by_number[number][0], by_number[number][1]) for number in range(num_pairs)]


def _placed(trainer: Any) -> Any:
    """The model where it can be run: DeepSpeed shards it before the first step and needs an engine to gather it."""
    if not trainer.is_deepspeed_enabled:
        return trainer.model
    from trl.models.utils import prepare_deepspeed

    return prepare_deepspeed(trainer.model, trainer.accelerator)


def _without_adapter(trainer: Any) -> Any:
    import contextlib

    model = trainer.accelerator.unwrap_model(trainer.model)
    return model.disable_adapter() if hasattr(model, "disable_adapter") else contextlib.nullcontext()


def _model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    names = ("input_ids", "attention_mask", "position_ids", "shift_labels")
    return {name: batch[name] for name in names}


def _measures(losses: PairLosses, terms: Terms) -> dict[str, Any]:
    """What is logged with the loss, under TRL's names."""
    chosen, rejected = terms.beta * losses.chosen, terms.beta * losses.rejected
    return {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": (chosen > rejected).float(),
        "nll": losses.nll,
    }
