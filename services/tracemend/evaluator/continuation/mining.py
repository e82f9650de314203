"""Mined triggers: the sentences in which traces settle on safety (methods.md §8 [P]).

The sentence that holds a trace's safe turning point is a safety trigger by the paper's definition. Over a set, equal
sentences count together, and those that turned the most prompts come first: a sentence of one prompt alone may be about
that prompt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tracemend.kit.ids import digest_of
from tracemend.redaction import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class TurningSentence:
    """The sentence that one trace turned to safety in."""

    text: Text
    prompt: str
    rise: float
    """What it changed in the ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinedTrigger:
    """A sentence that turned traces."""

    id: str
    text: Text
    """With single spaces, as first met."""
    num_traces: int
    num_prompts: int
    mean_rise: float


def mine(sentences: Iterable[TurningSentence], *, min_prompts: int = 1) -> tuple[MinedTrigger, ...]:
    """The distinct ones, by prompts turned, then by traces, then by rise; of at least `min_prompts` prompts each."""
    equal: dict[str, list[TurningSentence]] = defaultdict(list)
    for sentence in sentences:
        equal[_plain(sentence.text).casefold()].append(sentence)
    mined = [_trigger(key, found) for key, found in equal.items() if key]
    kept = [trigger for trigger in mined if trigger.num_prompts >= min_prompts]
    return tuple(sorted(kept, key=lambda t: (-t.num_prompts, -t.num_traces, -t.mean_rise, t.id)))


def _trigger(key: str, found: list[TurningSentence]) -> MinedTrigger:
    return MinedTrigger(
        id=f"mined-{digest_of(key)[:8]}",
        text=Text(_plain(found[0].text)),
        num_traces=len(found),
        num_prompts=len({sentence.prompt for sentence in found}),
        mean_rise=sum(sentence.rise for sentence in found) / len(found),
    )


def _plain(text: Text) -> str:
    return " ".join(text.reveal().split())
