"""Text into steps: the sentences and lines that detectors number, strategies replace and interventions cut at.

Judges, detectors and strategies call `segment`; whoever needs token positions as well calls `spans.steps_of`. For any
input the segments are non-empty, in order and without gaps, so that joined they give the text back byte for byte, and
the time is linear in its length: every pattern here is possessive and every look backwards is bounded.

The rules are those of prose, since that is what reasoning models write: a sentence ends at a terminator before
whitespace, a line at its line break, and whitespace belongs to what it follows. A full stop after an abbreviation, an
initial or a list number ends nothing. In a fenced code block only lines end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tracemend.records import Span

# Written with a space behind them: Latin, Arabic and Urdu, Devanagari, Armenian, Ethiopic, Burmese, Khmer.
_SPACED = ".!?…‼⁇⁈⁉؟۔।॥։።፧။៕។"
# Chinese and Japanese end a sentence without a space.
_UNSPACED = "。！？｡"
_CLOSERS = "\"'”’»›)\\]}*_`$」』）】》〉］"
_OPENERS = "\"'“‘«‹([{*_`$#>-–—/~"
_OPERATORS = "=+/\\^<>×·÷≤≥≠"
_LINE_BREAKS = "\n\r\x85\u2028\u2029"

# Terminators and the brackets and quotes behind them: `?"`, `.)`, `.**`, `!!!`.
_RUN = rf"(?:[{_SPACED}{_UNSPACED}]++[{_CLOSERS}]*+)++"
_SPACED_RUN = rf"(?:[{_SPACED}]++[{_CLOSERS}]*+)++"
# Everything up to the next place that may end a segment, then that place. It is only ever matched, never searched for:
# a failing search would begin again at every char.
_BREAK = re.compile(
    rf"(?:[^{_SPACED}{_UNSPACED}{_LINE_BREAKS}]++|{_SPACED_RUN}(?![\s{_UNSPACED}]|\Z))*+"
    rf"(?:(?P<end>{_RUN})(?P<space>\s*+)|[{_LINE_BREAKS}]\s*+)"
)
_LINE_END = re.compile(rf"[^{_LINE_BREAKS}]*+[{_LINE_BREAKS}]\s*+")
_LINE_BREAK = re.compile(f"[{_LINE_BREAKS}]")
_FENCE = re.compile(rf"(`{{3,}}+|~{{3,}}+)([^{_LINE_BREAKS}]*+)")
_SPACE = re.compile(r"\s*+")
_NEXT_WORD = re.compile(r"[^\W\d_]{1,16}")

_LIST_NUMBER = re.compile(r"\d{1,3}(?:\.\d{1,3}){0,4}|[A-Za-z]|[ivx]{1,5}|[IVX]{1,5}")
_INITIALS = re.compile(r"(?:[A-Za-z]{1,2}\.)+[A-Za-z]{1,2}|[A-HJ-Z]")
_LONGEST_ABBREVIATION_CHARS = 24


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


_BEFORE_NAMES = _words(
    "e.g i.e eg ie cf viz vs ca dr mr mrs ms mx prof rev gen sen rep gov lt col sgt capt cpt hon st mt messrs"
)
_BEFORE_NUMBERS = _words("no nos nr fig figs eq eqs sec secs ch chap p pp vol art ex prop thm def ver v")
_BEFORE_ANYTHING = _words("etc al inc ltd co corp jr sr dept approx est esp incl resp a.m p.m am pm")
# What begins a sentence rather than goes on with a name: "the U.S. They said" against "the U.S. Congress".
_STARTERS = _words(
    "a also alternatively an and another as at because but first for given he hence here hmm however i if in it its"
    " let maybe my next no not now of ok okay on or our second she similarly since so that the their then there"
    " therefore these they this those thus to wait we well what when while why yes yet you your"
)


def segment(text: str) -> tuple[Span, ...]:
    """Char spans of the sentences and lines of `text`; empty for an empty text."""
    text = str.__str__(text)
    spans = []
    start = 0
    for end in _ends(text):
        spans.append(Span(start=start, end=end))
        start = end
    if start < len(text):
        spans.append(Span(start=start, end=len(text)))
    return tuple(spans)


def _ends(text: str) -> Iterator[int]:
    """The char positions at which a segment ends, ascending."""
    start = 0
    position = _skip_space(text, 0)
    fence = _fence_after(text, position, "")
    while match := (_LINE_END if fence else _BREAK).match(text, position):
        position = match.end()
        if fence or match["space"] is None or _LINE_BREAK.search(match["space"]):
            fence = _fence_after(text, position, fence)
        elif not _ends_sentence(text, start, match):
            continue
        yield position
        start = position


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None, "the pattern matches nothing as well"
    return match.end()


def _fence_after(text: str, line: int, fence: str) -> str:
    """The code fence in force from the line that begins at `line`, after `fence` was before; empty for none."""
    match = _FENCE.match(text, line)
    if match is None:
        return fence
    ticks, rest = match.groups()
    if fence:
        closes = ticks.startswith(fence) and not rest.strip()
        return "" if closes else fence
    return "" if ticks[0] == "`" and "`" in rest else ticks


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether the terminators of `match`, on a line that goes on, end the sentence that began at `start`."""
    end = match["end"]
    if match.end() == len(text):
        return True
    goes_on = text[match.end()].islower()
    if end == "!" and text[match.end()] in _OPERATORS:
        return False  # 5! = 120
    terminators = end.rstrip(_CLOSERS.replace("\\", ""))
    if goes_on and (terminators != end or "…" in end or ".." in end):
        return False  # "Stop!" he said; well... maybe
    return terminators != "." or not _is_abbreviated(text, start, match.start("end"), match.end())


def _is_abbreviated(text: str, start: int, stop: int, after: int) -> bool:
    """Whether the full stop at char `stop` belongs to the word before it; the next word begins at char `after`."""
    window = text[max(start, stop - _LONGEST_ABBREVIATION_CHARS) : stop]
    if not window or window[-1].isspace():
        return False
    word = window.split()[-1].lstrip(_OPENERS)
    if not word:
        return False
    is_first_word = len(window) == stop - start and not window[: -len(word)].strip(_OPENERS + " \t")
    if is_first_word and _LIST_NUMBER.fullmatch(word):
        return True
    name = word.lower()
    if name in _BEFORE_NAMES:
        return True
    if name in _BEFORE_NUMBERS:
        return text[after].isdigit()
    if name in _BEFORE_ANYTHING:
        return text[after].islower()
    if _INITIALS.fullmatch(word):
        following = _NEXT_WORD.match(text, after)
        return following is None or following[0].lower() not in _STARTERS
    return False
