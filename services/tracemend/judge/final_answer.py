"""Finds what a solution says its answer is, and compares plain numbers exactly.

Called by `judges/math_answer`. Pure and linear in the text; anything that is more than a plain number is left to a
computer algebra system, which runs in a process of its own (`math_checker`).
"""

from __future__ import annotations

import re
from fractions import Fraction

_STATED = re.compile(r"\banswer\s*(?:is|:|=)[ \t]*:?[ \t]*(?P<answer>[^\n]+)", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?<![\w.,/])(?P<sign>[-−+]?)[ ]?(?:[$€£][ ]?)?(?P<whole>\d{1,3}(?:,\d{3})+|\d+)(?P<part>\.\d+)?"
    r"(?:[ ]?/[ ]?(?P<below>\d+))?(?![\w^/]|[.,]\d)"
)
_MAX_DIGITS = 60
# TeX, an equation, arithmetic between numbers, or arithmetic with a letter for a variable.
_FORMULA = re.compile(
    r"[\\^{}=<>]|\d[ ]?[!*+×÷]|\d[ ]?[-−][ ]?\d|\b[A-Za-z][ ]?[-−+*/×]|[-−+*/×][ ]?[A-Za-z]\b|\bsqrt\b"
)
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm)\{(?P<words>[^{}]*)\}")


def stated_answer(text: str) -> str | None:
    """The last answer that `text` marks as such: in a box, after `####` (GSM8K), or after "answer is"; else None."""
    box = boxed_answer(text)
    if box is not None:
        return box
    _, marked, after = text.rpartition("####")
    if marked:
        return after.strip().split("\n", 1)[0].strip() or None
    stated = None
    for match in _STATED.finditer(text.replace("**", "")):
        stated = match["answer"]
    if stated is None:
        return None
    return stated.rpartition("=")[2].strip().rstrip(".").strip() or None


def boxed_answer(text: str) -> str | None:
    """What the last `\\boxed{…}` of `text` holds; None where there is none or it does not close."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    begin = start + len("\\boxed{")
    depth = 1
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin:position].strip()
    return None


def same_words(one: str, other: str) -> bool:
    """Whether two answers are the same but for case, spaces, and TeX that only sets text."""
    plain = (_WRAPPED.sub(r"\g<words>", words).replace("$", " ") for words in (one, other))
    first, second = (" ".join(words.split()).casefold() for words in plain)
    return first == second


def plain_numbers(text: str) -> frozenset[Fraction]:
    """The numbers in `text`, beside units, currencies and words; none where it holds a formula."""
    plain = text.replace("\\$", "$").replace("\\%", "%")
    if _FORMULA.search(plain):
        return frozenset()
    values = [_value(match) for match in _NUMBER.finditer(plain)]
    return frozenset() if None in values else frozenset(value for value in values if value is not None)


def last_number(text: str) -> frozenset[Fraction]:
    """The last number of the last line that holds one; none where that line holds a formula."""
    for line in reversed(text.splitlines()):
        matches = list(_NUMBER.finditer(line))
        if matches:
            value = None if _FORMULA.search(line.rpartition("=")[2]) else _value(matches[-1])
            return frozenset() if value is None else frozenset({value})
    return frozenset()


def _value(match: re.Match[str]) -> Fraction | None:
    if len(match[0]) > _MAX_DIGITS:
        return None
    value = Fraction(match["whole"].replace(",", "") + (match["part"] or ""))
    below = int(match["below"] or 1)
    if below == 0:
        return None
    return (-value if match["sign"] in "-−" and match["sign"] else value) / below
