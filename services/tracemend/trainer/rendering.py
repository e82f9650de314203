"""From examples to token rows: the ids that the model will see and the labels that the loss is taken on.

`training` calls it before anything else; `fidelity` then holds the rows against what the model is served. Nothing here
trusts a library's defaults: the template, the mask, the end token and the cut are ours, so TRL gets finished rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from tracemend.kit.errors import Reject
from tracemend.records import Example, Parse, Span
from tracemend.redaction import Text
from tracemend.trainer.settings import TrainSettings

IGNORED = -100
"""The label of a token that is outside the loss."""


class Split(Protocol):
    """A response as the served parser splits it; token spans index the response's ids."""

    @property
    def reasoning(self) -> Text: ...
    @property
    def answer(self) -> Text: ...
    @property
    def parse(self) -> Parse: ...
    @property
    def reasoning_tokens(self) -> Span: ...
    @property
    def answer_tokens(self) -> Span: ...


class Template(Protocol):
    """How the model is served: `traces.template.ChatTemplate`, seen from here."""

    @property
    def identity(self) -> str: ...
    @property
    def end_token_ids(self) -> frozenset[int]: ...
    def prompt_tokens(self, prompt: Text, *, system: str = "") -> tuple[int, ...]: ...
    def response_text(self, reasoning: Text, answer: Text) -> Text: ...
    def response_tokens(self, reasoning: Text, answer: Text) -> tuple[int, ...]: ...
    def split(self, token_ids: Sequence[int]) -> Split: ...
    def decode(self, token_ids: Sequence[int]) -> Text: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """One row as it is trained on."""

    example: Example
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    """Same length as `input_ids`; `IGNORED` outside the loss."""
    num_prompt_tokens: int

    @property
    def response_ids(self) -> tuple[int, ...]:
        return self.input_ids[self.num_prompt_tokens :]

    @property
    def response_labels(self) -> tuple[int, ...]:
        return self.labels[self.num_prompt_tokens :]


def render_rows(
    examples: Sequence[Example], template: Template, tokenizer: Any, settings: TrainSettings, *, system: str = ""
) -> list[TokenRow]:
    """The examples as token rows, uncut, in order; those that text cannot hold (a tag inside the reasoning) are
    missing, which the fidelity gate sees by their number.

    Args:
        examples: The dataset's rows.
        template: How the model is served.
        tokenizer: The model's own tokenizer, which `render: model_template` and `plain` use.
        settings: `render`, `teach_end` and `train_on_prompt`.
        system: The system prompt that the model is served with; `render: plain` has no place for one.
    """
    rows = []
    for example in examples:
        try:
            prompt_ids, response_ids = _render(example, template, tokenizer, settings.render, system)
        except Reject:
            continue
        if not settings.teach_end:
            while response_ids and response_ids[-1] in template.end_token_ids:
                response_ids = response_ids[:-1]
        prompt_labels = prompt_ids if settings.train_on_prompt else (IGNORED,) * len(prompt_ids)
        rows.append(
            TokenRow(
                example=example,
                input_ids=prompt_ids + response_ids,
                labels=prompt_labels + response_ids,
                num_prompt_tokens=len(prompt_ids),
            )
        )
    return rows


def fit_length(rows: Sequence[TokenRow], settings: TrainSettings) -> tuple[list[TokenRow], int]:
    """The rows that fit `max_length`, longer ones left out or cut as `truncation` says, and how many were longer.

    A cut row that keeps no token of its loss is left out too.
    """
    limit = max_length(rows, settings)
    fitting: list[TokenRow] = []
    num_longer = 0
    for row in rows:
        if len(row.input_ids) <= limit:
            fitting.append(row)
            continue
        num_longer += 1
        cut = replace(row, input_ids=row.input_ids[:limit], labels=row.labels[:limit])
        if settings.truncation == "keep_start" and any(label != IGNORED for label in cut.labels):
            fitting.append(cut)
    return fitting, num_longer


def max_length(rows: Sequence[TokenRow], settings: TrainSettings) -> int:
    """The longest row that is trained on, in tokens."""
    if settings.max_length == "auto":
        return max((len(row.input_ids) for row in rows), default=0)
    return settings.max_length


def _render(
    example: Example, template: Template, tokenizer: Any, how: Literal["chat", "model_template", "plain"], system: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    prompt, reasoning, answer = example.prompt.text, example.reasoning, example.answer
    if how == "chat":
        return template.prompt_tokens(prompt, system=system), template.response_tokens(reasoning, answer)
    response = template.response_text(reasoning, answer).reveal()
    if how == "plain":
        return _encode(tokenizer, prompt.reveal() + "\n", True), _encode(tokenizer, response, False)
    return _by_model_template(tokenizer, prompt.reveal(), response, system)


def _by_model_template(
    tokenizer: Any, prompt: str, response: str, system: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokenizer's own rendering of a finished exchange, split where it leaves what the model would be served."""
    asked = [{"role": "system", "content": system}] if system else []
    asked.append({"role": "user", "content": prompt})
    served = _encode(tokenizer, tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True), False)
    turns = [*asked, {"role": "assistant", "content": response}]
    whole = _encode(tokenizer, tokenizer.apply_chat_template(turns, tokenize=False), False)
    shared = next((at for at, pair in enumerate(zip(served, whole, strict=False)) if pair[0] != pair[1]), len(served))
    return whole[:shared], whole[shared:]


def _encode(tokenizer: Any, text: str, special: bool) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=special)["input_ids"])
