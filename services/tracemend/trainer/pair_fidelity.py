"""The fidelity gate for pairs: both sides are what the model writes and is served, and differ where the loss says so.

`preparation` runs it on the rendered pairs, before any step. What `fidelity` is for supervised rows this is for pairs:
a prefix that is not shared, a span that never reaches the closing tag, or a row that would lose its end makes
preference training learn something else in silence, so each is an objection with a name and a remedy.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracemend.records import Parse
from tracemend.trainer.fidelity import ModelLimits, Objection, raise_standing
from tracemend.trainer.pair_rows import PairRow, PairSpans, Reach
from tracemend.trainer.rendering import Template
from tracemend.trainer.settings import PairObjectionName, TrainSettings

_MEANING: dict[PairObjectionName, tuple[str, str]] = {
    "prompt_not_served": (
        "the prompt's tokens are not the ones that the generator serves: the pairs were made under another template or "
        "system prompt",
        "assemble the pairs again with the target's template and system prompt",
    ),
    "prefix_differs": (
        "the two sides differ before the cut, so the loss would also compare what they should share",
        "assemble the pairs again; a prefix must be the same token ids, never text that was tokenised twice",
    ),
    "text_differs": (
        "the token ids do not spell the pair's texts: they are another tokenizer's",
        "train the model that the pairs were sampled from, or assemble them again with this one",
    ),
    "nothing_to_prefer": (
        "a side has no token in the span, or the two sides are the same in it",
        "check where the cuts lie, or set dpo_span: response",
    ),
    "span_not_closed": (
        "a span is to end with the tag that closes the reasoning, and a side never closes it",
        "leave unfinished samples out of the pairs, or set dpo_span: response",
    ),
    "span_without_end": (
        "a span is to end with the end token, and a side has none, so the model is never taught to stop",
        "leave samples out that were cut off, or set dpo_span: reasoning",
    ),
    "pair_too_long": (
        "pairs are longer than max_length; a side without its end is another response, so they are never cut",
        "raise max_length, set max_length: auto, or allow a share of them to be left out by truncation_share",
    ),
    "pair_beyond_context": (
        "pairs are longer than the model's context",
        "lower max_length to the context and allow a share of longer pairs by truncation_share",
    ),
    "pair_unknown_tokens": (
        "token ids lie outside the model's vocabulary: the pairs were sampled from another model",
        "train the model that the pairs were sampled from, or assemble them again with this one",
    ),
}


def require_pair_fidelity(
    rows: Sequence[PairRow],
    template: Template,
    settings: TrainSettings,
    *,
    limits: ModelLimits,
    spans: PairSpans,
    system: str = "",
) -> list[Objection]:
    """Raise all objections that the settings do not override; returns the overridden ones.

    Raises:
        SetupError: Training would not compare what was sampled.
    """
    found = pair_objections(rows, template, settings, limits=limits, spans=spans, system=system)
    return raise_standing(found, settings)


def pair_objections(
    rows: Sequence[PairRow],
    template: Template,
    settings: TrainSettings,
    *,
    limits: ModelLimits,
    spans: PairSpans,
    system: str = "",
) -> list[Objection]:
    """What the gate has against training on `rows`, as rendered and before long ones are left out. `system` is the
    system prompt that the model is served with."""
    counts: dict[PairObjectionName, int] = dict.fromkeys(_MEANING, 0)
    longest = max_pair_length(rows, settings)
    for row in rows:
        if row.prompt_ids != template.prompt_tokens(row.pair.prompt.text, system=system):
            counts["prompt_not_served"] += 1
        for name in _row_objections(row, template, vocab_size=limits.vocab_size, spans=spans):
            counts[name] += 1
        if limits.context_length < row.num_tokens <= longest and limits.context_length:
            counts["pair_beyond_context"] += 1
    num_longer = sum(row.num_tokens > longest for row in rows)
    counts["pair_too_long"] = num_longer if num_longer > settings.truncation_share * len(rows) else 0
    return [
        Objection(name=name, num_rows=number, of_rows=len(rows), meaning=meaning, remedy=remedy)
        for (name, number), (meaning, remedy) in zip(counts.items(), _MEANING.values(), strict=True)
        if number
    ]


def max_pair_length(rows: Sequence[PairRow], settings: TrainSettings) -> int:
    """The longest side that is trained on, prompt included, in tokens."""
    if settings.max_length == "auto":
        return max((row.num_tokens for row in rows), default=0)
    return settings.max_length


def _row_objections(row: PairRow, template: Template, *, vocab_size: int, spans: PairSpans) -> list[PairObjectionName]:
    pair, sides = row.pair, (row.chosen_ids, row.rejected_ids)
    if any(not 0 <= token < vocab_size for ids in (row.prompt_ids, *sides) for token in ids):
        return ["pair_unknown_tokens"]
    found: list[PairObjectionName] = []
    shared = pair.prefix_tokens
    if row.chosen_ids[:shared] != row.rejected_ids[:shared] or shared > min(map(len, sides)):
        found.append("prefix_differs")
    for ids, text in ((pair.chosen_tokens, pair.chosen), (pair.rejected_tokens, pair.rejected)):
        if template.decode(ids).reveal() != text.reveal():
            found.append("text_differs")
            break
    chosen_span = row.chosen_ids[row.prefix : row.chosen_end]
    rejected_span = row.rejected_ids[row.prefix : row.rejected_end]
    if not chosen_span or not rejected_span or chosen_span == rejected_span:
        found.append("nothing_to_prefer")
    reach: Reach = spans.benign_reach if pair.kind == "benign" else spans.reach
    if reach == "reasoning" and any(template.split(ids).parse is not Parse.CLOSED for ids in sides):
        found.append("span_not_closed")
    if reach == "response" and any(not ids or ids[-1] not in template.end_token_ids for ids in sides):
        found.append("span_without_end")
    return found
