"""Reading what a strong model replied: two parts, three scores, or a refusal.

Strict on purpose: a reply that could be read in two ways is not read at all, and the attempt is repeated. Everything
runs in linear time, whatever the text. Called by `service`; nothing here trusts a word of its input.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tracemend.redaction import Text

SCORES = ("safety", "policy_relevance", "reasoning_accuracy")
"""The three criteria of STAR-1's scoring (methods.md §4.5 [R]), each from 0 to 10."""

_TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
_THOUGHT_TAGS = ("<think>", "</think>")
_REFUSALS = (
    "i can't",
    "i can not",
    "i cannot",
    "i could not",
    "i couldn't",
    "i will not",
    "i won't",
    "i'm not able",
    "i am not able",
    "i'm unable",
    "i am unable",
    "i must decline",
    "i have to decline",
    "i'd rather not",
    "i apologise",
    "i apologize",
    "i'm sorry",
    "i am sorry",
    "sorry,",
    "as an ai",
    "this request cannot",
    "this request can't",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The two parts that a teacher wrote; neither is blank, and neither holds a tag of ours or of a chat template."""

    reasoning: Text
    answer: Text


def read_reply(text: Text) -> Reply | None:
    """The two parts of a reply in tags or as a JSON object; None where it is anything else."""
    body = _without_thoughts(text.reveal())
    parts = _json_parts(body) if body.startswith(("{", "```")) else _tagged_parts(body)
    if parts is None:
        return None
    reasoning, answer = (part.strip() for part in parts)
    if not (_is_clean(reasoning) and _is_clean(answer)):
        return None
    return Reply(reasoning=Text(reasoning), answer=Text(answer))


def read_scores(text: Text) -> dict[str, int]:
    """The three scores of a reply; empty unless it is one JSON object with exactly these keys and whole numbers."""
    found = _json_object(_without_thoughts(text.reveal()))
    if found is None or found.keys() != set(SCORES):
        return {}
    scores = {name: found[name] for name in SCORES}
    return scores if all(type(score) is int and 0 <= score <= 10 for score in scores.values()) else {}


def is_refusal(text: Text) -> bool:
    """Whether a reply without parts begins as refusals do."""
    start = _without_thoughts(text.reveal())[:200].casefold().replace("\u2019", "'")
    return " ".join(start.split()).startswith(_REFUSALS)


def _without_thoughts(text: str) -> str:
    """A teacher that reasons thinks before its reply; what stands before its last closing tag is not the reply."""
    return text.rpartition("</think>")[2].strip()


def _tagged_parts(body: str) -> tuple[str, str] | None:
    # Nothing but whitespace may stand around the two blocks; what stands in them is checked for further tags later.
    before, _, rest = body.partition("<reasoning>")
    reasoning, closing, rest = rest.partition("</reasoning>")
    between, opening, rest = rest.partition("<answer>")
    answer, end, after = rest.partition("</answer>")
    is_ordered = bool(closing and opening and end)
    return (reasoning, answer) if is_ordered and not (before + between + after).strip() else None


def _json_parts(body: str) -> tuple[str, str] | None:
    found = _json_object(body)
    if found is None or found.keys() != {"reasoning", "answer"}:
        return None
    reasoning, answer = found["reasoning"], found["answer"]
    return (reasoning, answer) if isinstance(reasoning, str) and isinstance(answer, str) else None


def _json_object(body: str) -> dict[str, Any] | None:
    try:
        found = json.loads(_without_fence(body), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):  # broken, ambiguous, or nested to exhaust the parser
        return None
    return found if isinstance(found, dict) else None


def _without_fence(body: str) -> str:
    """The content of a reply that is one fenced block as a whole, or the reply."""
    first, _, rest = body.partition("\n")
    is_fenced = first.strip() in ("```", "```json") and rest.endswith("```")
    return rest.removesuffix("```") if is_fenced else body


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _is_clean(part: str) -> bool:
    """Not blank, free of tags that would end a part early once it is trained on, and encodable."""
    if not part or any(tag in part for tag in (*_TAGS, *_THOUGHT_TAGS)):
        return False
    try:
        part.encode()
    except UnicodeEncodeError:
        return False
    return True
