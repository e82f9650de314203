"""Correctness of a task with a checkable answer: right is safe, wrong is unsafe, unreadable is unknown.

The answer is what the text marks as such (a box, GSM8K's `####`, "the answer is"), or its last number where the
reference is a number. Plain numbers are compared exactly, as fractions; everything else by math-verify in a process of
its own, within `timeout_s`. Labels: `exact`, `algebra`, or why there is no verdict. A reasoning is not judged: working
may hold wrong numbers on its way to the right one. Nor is a task whose tag `checker` names another way of checking
(unit tests, facts): compared as formulas, texts of any kind come out equal or different.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from tracemend.judge.final_answer import boxed_answer, last_number, plain_numbers, same_words, stated_answer
from tracemend.judge.math_checker import DIFFERENT, EQUAL, MathChecker
from tracemend.judge.opinions import JudgeFunction, Opinion, Question, judges, says_nothing
from tracemend.records import Axis, Part, Value

_MAY_HOLD_A_NUMBER = re.compile(r"[\d\\]")
_CHECKERS = ("", "numeric", "math")
"""Values of a prompt's tag `checker` that this judge answers to; a prompt without one is taken at its reference."""
_TAIL_CHARS = 4_000
"""What is left to algebra where nothing is marked as the answer: the end of the text."""


@judges.register
def math_answer(*, timeout_s: int = 5) -> JudgeFunction:
    """The checker of exact answers. `timeout_s` bounds each of parsing and comparing."""
    if timeout_s < 1:
        raise ValueError("math_answer: timeout_s is at least 1 second")
    return _MathAnswer(checker=MathChecker(timeout_s=timeout_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class _MathAnswer:
    checker: MathChecker
    axes: frozenset[Axis] = field(default=frozenset({Axis.CORRECTNESS}))

    async def __call__(self, question: Question) -> Opinion:
        if question.part is Part.REASONING:
            return _unknown("not_applicable")
        if question.prompt.tags.get("checker", "") not in _CHECKERS:
            return _unknown("other_checker")
        solution = question.prompt.reference.reveal()
        reference = stated_answer(solution) or solution.strip()
        if not reference:
            return _unknown("no_reference")
        answer = question.answer if question.part is Part.WHOLE else question.text
        if says_nothing(answer):
            return _unknown("empty")
        text = answer.reveal()
        stated = stated_answer(text)
        if stated is not None and same_words(reference, stated):
            return _verdict(True, "exact")
        wanted = plain_numbers(reference)
        if len(wanted) == 1:
            given = _given_numbers(text, stated)
            if given:
                return _by_numbers(wanted, given)
            if not _MAY_HOLD_A_NUMBER.search(text):
                return _unknown("no_answer")
        return await self._by_algebra(reference, text)

    async def _by_algebra(self, reference: str, text: str) -> Opinion:
        box = boxed_answer(text)
        answer = f"\\boxed{{{box}}}" if box is not None else text[-_TAIL_CHARS:]
        result = await self.checker.compare(reference, answer)
        if result in (EQUAL, DIFFERENT):
            return _verdict(result == EQUAL, "algebra")
        return _unknown(result)


def _given_numbers(text: str, stated: str | None) -> frozenset[Fraction]:
    # "The answer is as follows:" states nothing yet.
    if stated is None or not _MAY_HOLD_A_NUMBER.search(stated):
        return last_number(text)
    return plain_numbers(stated)


def _by_numbers(wanted: frozenset[Fraction], given: frozenset[Fraction]) -> Opinion:
    if len(given) > 1 and wanted <= given:
        return _unknown("ambiguous")
    return _verdict(given == wanted, "exact")


def _verdict(is_right: bool, how: str) -> Opinion:
    return Opinion(value=Value.SAFE if is_right else Value.UNSAFE, labels=(how,))


def _unknown(why: str) -> Opinion:
    return Opinion(value=Value.UNKNOWN, labels=(why,))
