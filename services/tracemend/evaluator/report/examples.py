"""Side-by-side examples: what the target wrote and what it was mended to, with the changed sentences marked.

Text is cut at a stated length; the whole of it lies in the store.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

from tracemend.records import Outcome, Verdict
from tracemend.redaction import Text

_ENDS = re.compile(r"""[.!?…]["')\]]*\s+|[。！？]|\n+""")
"""Where a sentence ends for comparing. Steps of a trace are split with more care; here a split too many only makes the
marks finer."""
MAX_CHARS = 6_000
"""Characters shown of one text."""
_MAX_SENTENCES = 400
"""Sentences compared of one text; matching is quadratic in the worst case."""


def build_examples(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One entry per corrected outcome that still has both of its verdicts, in the order given."""
    return [
        _example(outcome, outcome.original, outcome.final)
        for outcome in outcomes
        if outcome.original is not None and outcome.final is not None
    ]


def _example(outcome: Outcome, original: Verdict, final: Verdict) -> dict[str, Any]:
    prompt = original.trajectory.prompt
    step = final.trajectory.intervention
    before, after = original.trajectory, final.trajectory
    return {
        "unit": {"arm": outcome.unit.arm, "sample": outcome.unit.sample, "variant": outcome.unit.variant},
        "outcome": outcome.id,
        "state": outcome.state,
        "reason": outcome.reason,
        "strategy": step.strategy if step else "",
        "attempt": step.attempt if step else 0,
        "prompt": {
            "id": prompt.id,
            **_cut(prompt.text),
            "category": prompt.category,
            "source": prompt.source,
            "tags": prompt.tags,
        },
        "original": {"reasoning": original.reasoning.value, "answer": original.answer.value},
        "mended": {"reasoning": final.reasoning.value, "answer": final.answer.value},
        "reasoning": _compare(before.reasoning, after.reasoning),
        "answer": _compare(before.answer, after.answer),
    }


def _cut(text: Text) -> dict[str, Any]:
    words = text.reveal()
    return {"text": words[:MAX_CHARS], "num_chars_left_out": max(0, len(words) - MAX_CHARS)}


def _compare(before: Text, after: Text) -> dict[str, Any]:
    """Both texts as runs of `[is_changed, words]`, compared sentence by sentence."""
    ours, theirs = _sentences(before), _sentences(after)
    old: list[list[Any]] = []
    new: list[list[Any]] = []
    keys = [sentence.strip() for sentence in ours], [sentence.strip() for sentence in theirs]
    for operation, a, b, c, d in SequenceMatcher(a=keys[0], b=keys[1], autojunk=False).get_opcodes():
        is_changed = operation != "equal"
        if a < b:
            old.append([is_changed, "".join(ours[a:b])])
        if c < d:
            new.append([is_changed, "".join(theirs[c:d])])
    return {
        "original": old,
        "mended": new,
        "original_chars_left_out": max(0, len(before) - sum(len(words) for _, words in old)),
        "mended_chars_left_out": max(0, len(after) - sum(len(words) for _, words in new)),
    }


def _sentences(text: Text) -> list[str]:
    """The sentences of the shown part; joined, they give it back."""
    words = text.reveal()[:MAX_CHARS]
    cuts = [0, *(match.end() for match in _ENDS.finditer(words)), len(words)]
    return [words[start:end] for start, end in pairwise(cuts) if start < end][:_MAX_SENTENCES]
