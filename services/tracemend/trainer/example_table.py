"""Supervised rows as a table: what `records.Example` is in a dataset's files."""

from __future__ import annotations

from typing import Any

from tracemend.records import Example, OutcomeState, Unit
from tracemend.redaction import Text
from tracemend.trainer.tables import Row, Table, prompt_columns, prompt_of


def _row(example: Example) -> dict[str, Any]:
    known = prompt_columns(example.prompt)
    return {
        "id": example.id,
        "prompt": example.prompt.text.reveal(),
        "reasoning": example.reasoning.reveal(),
        "answer": example.answer.reveal(),
        "category": known.pop("category"),
        "state": example.state.value,
        "strategy": example.strategy,
        **known,
        "original_reasoning": example.original_reasoning.reveal(),
        "original_answer": example.original_answer.reveal(),
        "prompt_id": example.prompt.id,
        "sample": example.unit.sample,
        "variant": example.unit.variant,
    }


def _record(row: Row, arm: str) -> Example:
    return Example(
        id=row["id"],
        unit=Unit(arm=arm, prompt=row["prompt_id"], sample=row["sample"], variant=row["variant"]),
        prompt=prompt_of(row, text=row["prompt"]),
        reasoning=Text(row["reasoning"]),
        answer=Text(row["answer"]),
        state=OutcomeState(row["state"]),
        strategy=row["strategy"],
        original_reasoning=Text(row["original_reasoning"]),
        original_answer=Text(row["original_answer"]),
    )


def _messages(row: Row) -> dict[str, Any]:
    """A conversation; the reasoning stands apart, since how it is marked is the chat template's to say."""
    reply = {"role": "assistant", "reasoning_content": row["reasoning"], "content": row["answer"]}
    return {"messages": [{"role": "user", "content": row["prompt"]}, reply]}


EXAMPLES = Table(
    kind="examples",
    columns={
        "id": "text",
        "prompt": "text",
        "reasoning": "text",
        "answer": "text",
        "category": "text",
        "state": "text",
        "strategy": "text",
        "source": "text",
        "licence": "text",
        "split": "text",
        "tags": "text",
        "reference": "text",
        "original_reasoning": "text",
        "original_answer": "text",
        "prompt_id": "text",
        "sample": "number",
        "variant": "text",
    },
    row=_row,
    record=_record,
    counted={"state": "", "strategy": "own", "category": "", "source": "unknown", "licence": "unknown"},
    measured=("prompt", "reasoning", "answer"),
    about=(
        "Safety training rows for a reasoning model: prompts, reasoning and answers. A judge found each row harmless\n"
        "where its category is harmful, complied with where it is benign or a lookalike, and correct where it is\n"
        "reasoning; the last two are judged by the answer alone. Prompts may be offensive, and `original_*` columns\n"
        "may hold harmful text. Licences differ by row and are those of the prompts' sources."
    ),
    meanings={
        "prompt": "what the user asks",
        "reasoning": "the trace to train on, without its tags",
        "answer": "the answer that follows it",
        "state": "`kept`: the model's own verified sample; `corrected`: an unsafe one, mended and judged afterwards",
        "strategy": "what made the row anew; empty for the model's own samples",
        "original_reasoning, original_answer": (
            "what the model itself had written in place of a new row; may be harmful"
        ),
        "category, source, licence, split, tags, reference": "what is known of the prompt",
        "id, prompt_id, sample, variant": "identity of the row",
    },
    spoken=_messages,
)
"""Supervised rows."""
