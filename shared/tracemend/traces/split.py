"""Where the reasoning of a response ends and its answer begins.

Served reasoning parsers misfile responses whose tags are missing or unclosed, so engines sample with parsing off and
this module splits what they wrote. The generator calls it through `ChatTemplate.split`, which knows token ids;
`split_text` serves endpoints that give text alone. Nothing but tags and the whitespace around the parts is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from tracemend.records import Parse, Span
from tracemend.traces.formats import ReasoningFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitText:
    """Char spans into the text that was split, without tags and without surrounding whitespace."""

    reasoning: Span
    answer: Span
    parse: Parse


def split_text(text: str, fmt: ReasoningFormat, *, close_char: int | None = None) -> SplitText:
    """Split a response, given without its end token, by the tags of `fmt`.

    The first closing tag ends the reasoning; later ones belong to the answer. Everything before it is reasoning: an
    opening tag is dropped where it begins the text, and kept as words anywhere else. Without a closing tag, a text
    whose block was opened (by itself, or by the prompt) is all reasoning and `UNCLOSED`; any other is an answer.

    `close_char` says where the closing tag begins, for callers who know it from token ids: a response may spell the
    tag as ordinary words before it writes the real one.
    """
    if not fmt.has_reasoning:
        return SplitText(reasoning=Span(start=0, end=0), answer=_trim(text, 0, len(text)), parse=Parse.NO_TAGS)
    start = _after_open_tag(text, fmt)
    close = text.find(fmt.close_tag, start or 0) if close_char is None else close_char
    if close >= 0:
        return SplitText(
            reasoning=_trim(text, start or 0, close),
            answer=_trim(text, close + len(fmt.close_tag), len(text)),
            parse=Parse.CLOSED,
        )
    if start is not None or fmt.opens_in_prompt:
        nothing = Span(start=len(text), end=len(text))
        return SplitText(reasoning=_trim(text, start or 0, len(text)), answer=nothing, parse=Parse.UNCLOSED)
    return SplitText(reasoning=Span(start=0, end=0), answer=_trim(text, 0, len(text)), parse=Parse.NO_TAGS)


def _after_open_tag(text: str, fmt: ReasoningFormat) -> int | None:
    """The char after the opening tag that begins `text`, or None."""
    first = _trim(text, 0, len(text)).start
    return first + len(fmt.open_tag) if text.startswith(fmt.open_tag, first) else None


def _trim(text: str, start: int, end: int) -> Span:
    """`start`..`end` without the whitespace at either side; an empty span stays inside the range."""
    part = text[start:end]
    first = start + len(part) - len(part.lstrip())
    return Span(start=first, end=first + len(part.strip()))
