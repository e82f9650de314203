"""From pairs to token rows: the ids of both sides as they were sampled, and where in them the loss is taken.

`preparation` calls it before any weights are loaded; `pair_fidelity` then holds the rows against what the model is
served. Ids are never made from text again: the prefix that both sides share is identical because it is the same ids
(methods.md §12.4). Positions index a side's response ids, the prompt apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tracemend.records import Pair, Parse
from tracemend.trainer.pair_table import ServedPair
from tracemend.trainer.rendering import Template

Reach: TypeAlias = Literal["reasoning", "response"]
"""Where a span ends: after the tag that closes the reasoning, or after the answer's end token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSpans:
    """Which response tokens of a pair count. The defaults are methods.md §12.4's."""

    start: Literal["cut", "response"] = "cut"
    """Where the preference begins: at h, where the sides part, or at the first response token."""
    reach: Reach = "reasoning"
    """Where the preference ends, for pairs about harm."""
    benign_reach: Reach = "response"
    """The same for benign pairs, whose sides differ in the answer: help against refusal (methods.md §12.2)."""
    nll: Literal["span", "response"] = "span"
    """What the likelihood term covers on the chosen side: the preference's span, or the whole response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """One pair as it is trained on."""

    pair: Pair
    prompt_ids: tuple[int, ...]
    """As the model was served it when the pair was made."""
    chosen_ids: tuple[int, ...]
    """Response ids up to the first end token, that included."""
    rejected_ids: tuple[int, ...]
    prefix: int
    """First response token of the preference's span, on both sides; the ids before it are the same on both."""
    chosen_end: int
    """One past the last token of the span on the chosen side."""
    rejected_end: int
    nll_start: int
    """First token of the likelihood term on the chosen side."""
    nll_end: int

    @property
    def num_tokens(self) -> int:
        """Tokens of the longer side, prompt included."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))


def render_pairs(pairs: Sequence[ServedPair], template: Template, spans: PairSpans) -> list[PairRow]:
    """The pairs as token rows, uncut, in order: one per pair, whatever is wrong with it (`pair_fidelity` says what).

    A side whose reasoning never closes, or that never ends, has a span to its last token.
    """
    return [_render(pair, template, spans) for pair in pairs]


def _render(served: ServedPair, template: Template, spans: PairSpans) -> PairRow:
    pair = served.pair
    reach = spans.benign_reach if pair.kind == "benign" else spans.reach
    chosen, rejected = (_to_end_token(ids, template) for ids in (pair.chosen_tokens, pair.rejected_tokens))
    start = pair.prefix_tokens if spans.start == "cut" else 0
    chosen_end = span_end(chosen, template, reach)
    return PairRow(
        pair=pair,
        prompt_ids=served.prompt_tokens,
        chosen_ids=chosen,
        rejected_ids=rejected,
        prefix=start,
        chosen_end=chosen_end,
        rejected_end=span_end(rejected, template, reach),
        nll_start=start if spans.nll == "span" else 0,
        nll_end=chosen_end if spans.nll == "span" else len(chosen),
    )


def span_end(ids: Sequence[int], template: Template, reach: Reach) -> int:
    """One past the last token of a span that begins anywhere in `ids`, a response up to its end token."""
    if reach == "response":
        return len(ids)
    split = template.split(ids)
    if split.parse is not Parse.CLOSED:
        return len(ids)
    # The tag lies between the parts; the fewest ids that still parse as closed end with its last token.
    low, high = split.reasoning_tokens.end, max(split.reasoning_tokens.end, split.answer_tokens.start)
    if template.split(ids[:high]).parse is not Parse.CLOSED:
        low, high = high, len(ids)
    while low < high:
        middle = (low + high) // 2
        if template.split(ids[:middle]).parse is Parse.CLOSED:
            high = middle
        else:
            low = middle + 1
    return high


def _to_end_token(ids: Sequence[int], template: Template) -> tuple[int, ...]:
    end = next((at for at, token in enumerate(ids) if token in template.end_token_ids), len(ids) - 1)
    return tuple(ids[: end + 1])
