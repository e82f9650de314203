"""Preference rows as a table: TRL's preference format with an explicit prompt, and the exact token ids beside it.

A row's `prompt` is the text that the model is served, and `chosen` and `rejected` what it writes after it, tags and end
token included; the ids are those that were drawn. Token ids belong to one tokenizer and chat template, so a pair is
stored with its prompt as that template renders it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tracemend.records import Pair, Unit
from tracemend.redaction import Text
from tracemend.trainer.tables import Row, Table, prompt_columns, prompt_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPair:
    """A pair, and its prompt as the model is served it."""

    pair: Pair
    prompt: Text
    """Text that the model's own tokenizer turns into `prompt_tokens`."""
    prompt_tokens: tuple[int, ...]


def _row(served: ServedPair) -> dict[str, Any]:
    pair = served.pair
    return {
        "id": pair.id,
        "prompt": served.prompt.reveal(),
        "chosen": pair.chosen.reveal(),
        "rejected": pair.rejected.reveal(),
        "prompt_ids": list(served.prompt_tokens),
        "chosen_ids": list(pair.chosen_tokens),
        "rejected_ids": list(pair.rejected_tokens),
        "prefix_tokens": pair.prefix_tokens,
        "kind": pair.kind,
        "trigger": pair.trigger.reveal(),
        "round": pair.round,
        "detector": pair.detector,
        "judge": pair.judge,
        "verifier": pair.verifier,
        "request": pair.prompt.text.reveal(),
        **prompt_columns(pair.prompt),
        "prompt_id": pair.prompt.id,
        "sample": pair.unit.sample,
        "variant": pair.unit.variant,
    }


def _record(row: Row, arm: str) -> ServedPair:
    pair = Pair(
        id=row["id"],
        unit=Unit(arm=arm, prompt=row["prompt_id"], sample=row["sample"], variant=row["variant"]),
        prompt=prompt_of(row, text=row["request"]),
        chosen_tokens=tuple(row["chosen_ids"]),
        rejected_tokens=tuple(row["rejected_ids"]),
        prefix_tokens=row["prefix_tokens"],
        trigger=Text(row["trigger"]),
        round=row["round"],
        kind=row["kind"],
        chosen=Text(row["chosen"]),
        rejected=Text(row["rejected"]),
        detector=row["detector"],
        judge=row["judge"],
        verifier=row["verifier"],
    )
    return ServedPair(pair=pair, prompt=Text(row["prompt"]), prompt_tokens=tuple(row["prompt_ids"]))


PAIRS = Table(
    kind="pairs",
    columns={
        "id": "text",
        "prompt": "text",
        "chosen": "text",
        "rejected": "text",
        "prompt_ids": "ids",
        "chosen_ids": "ids",
        "rejected_ids": "ids",
        "prefix_tokens": "number",
        "kind": "text",
        "trigger": "text",
        "round": "number",
        "detector": "text",
        "judge": "text",
        "verifier": "text",
        "request": "text",
        "category": "text",
        "source": "text",
        "licence": "text",
        "split": "text",
        "tags": "text",
        "reference": "text",
        "prompt_id": "text",
        "sample": "number",
        "variant": "text",
    },
    row=_row,
    record=_record,
    counted={"kind": "", "variant": "none", "category": "", "source": "unknown", "licence": "unknown"},
    measured=("request", "chosen", "rejected"),
    about=(
        "Preference rows for a reasoning model. Of an `intervened` row the two sides share their first\n"
        "`prefix_tokens` response tokens: the rejected side goes on with what a judge found unsafe, the chosen side\n"
        "with an inserted trigger sentence and what the model itself wrote after it. A `natural` row holds a safe and\n"
        "an unsafe sample of one prompt, a `benign` row an answer and a refusal of a harmless prompt. Rejected sides\n"
        "may hold harmful text. Licences differ by row and are those of the prompts' sources.\n"
        "\n"
        "The columns `prompt`, `chosen` and `rejected` are TRL's preference format; the texts are rendered by the\n"
        "model's chat template and must not be rendered again. The ids are exact; text that is tokenised anew may\n"
        "split otherwise where the two sides part, and then does not share its prefix."
    ),
    meanings={
        "prompt": "what the model is served",
        "chosen, rejected": "what it writes after it: the better and the worse response, tags and end token included",
        "prompt_ids, chosen_ids, rejected_ids": "the same as token ids of the model's own tokenizer",
        "prefix_tokens": "number of response ids that the two sides share; 0 where they share the prompt alone",
        "kind": "`intervened`, `natural` or `benign`",
        "trigger, round": "the sentence that was inserted, and how often that had to be done",
        "detector, judge, verifier": "who found the cut, the rejected side unsafe, and the chosen side safe",
        "request": "what the user asks, before any template",
        "category, source, licence, split, tags, reference": "what is known of the prompt",
        "id, prompt_id, sample, variant": "identity of the row; the variant is the trigger's name",
    },
    spoken=lambda row: {name: row[name] for name in ("prompt", "chosen", "rejected")},
)
"""Preference rows."""
