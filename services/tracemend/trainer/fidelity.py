"""The train-serve fidelity gate: what is trained must be what is served, or training does not start.

`training` runs it on the rendered rows themselves, before any step. Recipes in this field lose their effect in silence:
templates cut the reasoning of assistant turns, lengths of 1,024 cut the safe ending, collators mask the only end token
(methods.md §2.7, platform.md §10). Each such fault is an objection with a name, a plain message and a remedy; all are
raised together, and a run that means one (to reproduce a published recipe) overrides it by name.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from tracemend.kit.errors import SetupError
from tracemend.records import Parse
from tracemend.redaction import Text
from tracemend.trainer.rendering import IGNORED, Split, Template, TokenRow, max_length
from tracemend.trainer.settings import AnyObjectionName, ObjectionName, TrainSettings

_log = logging.getLogger(__name__)

_MEANING: dict[ObjectionName, tuple[str, str]] = {
    "not_renderable": (
        "rows cannot be written in the model's format, for instance because their reasoning spells the closing tag",
        "take them out of the dataset, or override this to leave them out of the training",
    ),
    "prompt_not_served": (
        "the prompt's tokens are not the ones that the generator serves",
        "set render: chat, or serve the model with the template and system prompt that it is trained with",
    ),
    "reasoning_dropped": (
        "the reasoning is not in the rendered response: the template drops it from assistant turns",
        "set render: chat, or use a template that keeps the reasoning",
    ),
    "closing_tag_missing": (
        "the served parser finds no end of the reasoning: the closing tag is missing",
        "check the target's reasoning format (it must be the one that the model writes)",
    ),
    "parser_disagrees": (
        "the served parser splits the row into another reasoning or answer than was judged",
        "check the reasoning format, and look for reasoning tags inside the texts themselves",
    ),
    "reasoning_outside_loss": (
        "tokens of the reasoning are masked, so the loss never sees them",
        "use labels over the whole response",
    ),
    "prompt_in_loss": (
        "the loss is also taken on the prompt, which teaches the model to write harmful requests",
        "set train_on_prompt: false",
    ),
    "end_not_taught": (
        "the last label is not an end token, so the model is never taught to stop",
        "set teach_end: true and render: chat",
    ),
    "too_long": (
        "rows are longer than max_length and would lose their end, often the safe answer",
        "raise max_length, set max_length: auto, or allow a share of them by truncation_share",
    ),
    "beyond_context": (
        "rows are longer than the model's context",
        "lower max_length to the context and allow a share of longer rows by truncation_share",
    ),
    "unknown_tokens": (
        "token ids lie outside the model's vocabulary: tokenizer and model do not belong together",
        "check the model folder: the tokenizer's class and its files must be the model's own",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """One way in which training would differ from serving."""

    name: AnyObjectionName
    num_rows: int
    of_rows: int
    meaning: str
    remedy: str

    @property
    def message(self) -> str:
        return f"{self.name} ({self.num_rows} of {self.of_rows} rows): {self.meaning}; {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """What a model can take in."""

    vocab_size: int
    """Rows of its embedding; token ids must lie below."""
    context_length: int = 0
    """Its positions; 0 where it does not say."""


def require_fidelity(
    rows: Sequence[TokenRow],
    template: Template,
    settings: TrainSettings,
    *,
    limits: ModelLimits,
    num_examples: int,
    system: str = "",
) -> list[Objection]:
    """Raise all objections that the settings do not override; returns the overridden ones.

    Raises:
        SetupError: Training would not teach what is served.
    """
    found = objections(rows, template, settings, limits=limits, num_examples=num_examples, system=system)
    return raise_standing(found, settings)


def raise_standing(found: Sequence[Objection], settings: TrainSettings) -> list[Objection]:
    """Raise the objections of `found` that the settings do not override, as one `SetupError`; return the others."""
    overridden = [objection for objection in found if objection.name in settings.overrides]
    standing = [objection for objection in found if objection.name not in settings.overrides]
    for objection in overridden:
        _log.warning("fidelity gate overridden: %s", objection.message)
    if standing:
        raise SetupError(
            "training would not teach what is served:\n"
            + "\n".join(f"  - {objection.message}" for objection in standing)
            + "\nTo train all the same, name them in train.overrides."
        )
    return overridden


def objections(
    rows: Sequence[TokenRow],
    template: Template,
    settings: TrainSettings,
    *,
    limits: ModelLimits,
    num_examples: int,
    system: str = "",
) -> list[Objection]:
    """What the gate has against training on `rows`, in the order of `ObjectionName`.

    Args:
        rows: Rendered rows, before any cut.
        template: How the model is served.
        settings: Lengths and the share of rows that may be longer.
        limits: What the model can take in.
        num_examples: Examples that were to be rendered.
        system: The system prompt that the model is served with.
    """
    counts: dict[ObjectionName, int] = dict.fromkeys(_MEANING, 0)
    counts["not_renderable"] = num_examples - len(rows)
    for row in rows:
        for name in _row_objections(row, template, vocab_size=limits.vocab_size, system=system):
            counts[name] += 1
    longest = max_length(rows, settings)
    num_longer = sum(len(row.input_ids) > longest for row in rows)
    counts["too_long"] = num_longer if num_longer > settings.truncation_share * len(rows) else 0
    if limits.context_length:
        counts["beyond_context"] = sum(limits.context_length < len(row.input_ids) <= longest for row in rows)
    return [
        Objection(name=name, num_rows=number, of_rows=num_examples, meaning=_MEANING[name][0], remedy=_MEANING[name][1])
        for name, number in counts.items()
        if number
    ]


def _row_objections(row: TokenRow, template: Template, *, vocab_size: int, system: str) -> list[ObjectionName]:
    """A row's objections; of several about the split, the one that explains the others."""
    found: list[ObjectionName] = []
    prompt_ids = row.input_ids[: row.num_prompt_tokens]
    if prompt_ids != template.prompt_tokens(row.example.prompt.text, system=system):
        found.append("prompt_not_served")
    if any(label != IGNORED for label in row.labels[: row.num_prompt_tokens]):
        found.append("prompt_in_loss")
    if not row.labels or row.labels[-1] not in template.end_token_ids:
        found.append("end_not_taught")
    if any(not 0 <= token < vocab_size for token in row.input_ids):
        return [*found, "unknown_tokens"]
    split = template.split(row.response_ids)
    trouble = _split_trouble(row, split)
    if trouble:
        found.append(trouble)
    # Outside the reasoning the answer and the tags must be taught as well: anything masked in a response is a fault.
    elif any(label == IGNORED for label in row.response_labels):
        found.append("reasoning_outside_loss")
    return found


def _split_trouble(row: TokenRow, split: Split) -> ObjectionName | None:
    example = row.example
    if _same(split.reasoning, example.reasoning) and _same(split.answer, example.answer):
        return None
    if not example.reasoning.reveal().strip():
        return "parser_disagrees"
    if not (_holds(split.reasoning, example.reasoning) or _holds(split.answer, example.reasoning)):
        return "parser_disagrees" if split.reasoning.reveal() and split.parse is Parse.CLOSED else "reasoning_dropped"
    return "parser_disagrees" if split.parse is Parse.CLOSED else "closing_tag_missing"


def _same(one: Text, other: Text) -> bool:
    """Equal but for runs of white space, which word-level tokenizers do not keep."""
    return one.reveal().split() == other.reveal().split()


def _holds(text: Text, part: Text) -> bool:
    return " ".join(part.reveal().split()) in " ".join(text.reveal().split())
