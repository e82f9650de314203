from __future__ import annotations

import dataclasses
import time
from fractions import Fraction

import pytest
from tests.unit.judge.questions import question, said

from tracemend.judge.final_answer import last_number, plain_numbers, stated_answer
from tracemend.judge.judges.math_answer import math_answer
from tracemend.judge.opinions import JudgeFunction
from tracemend.records import Axis, Part


@pytest.fixture(scope="module")
def judge() -> JudgeFunction:
    """One judge, one worker process for all."""
    return math_answer(timeout_s=2)


def checked(judge: JudgeFunction, reference: str, text: str, part: Part = Part.ANSWER) -> tuple[str, str]:
    asked = question(text, axis=Axis.CORRECTNESS, reference=reference, part=part)
    opinion = said(judge, asked)
    return opinion.value.value, opinion.labels[0]


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("so \\boxed{42} .", "42"),
        ("first \\boxed{1}, then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("work\n#### 1,000", "1,000"),
        ("The answer is 12.", "12"),
        ("**Answer:** $7$", "$7$"),
        ("The answer is 3 + 4 = 7", "7"),
        ("the answer is 1\nno, the answer is 2", "2"),
        ("unclosed \\boxed{42", None),
        ("no mark 42", None),
    ],
)
def test_the_stated_answer_is_found(text: str, stated: str | None) -> None:
    assert stated_answer(text) == stated


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("42", {42}),
        ("$1,234.50 in total", {Fraction("1234.5")}),
        ("−3", {-3}),
        ("3/4 of it", {Fraction(3, 4)}),
        ("50\\%", {50}),
        ("12 apples, 3 red", {12, 3}),
        ("5!", set()),
        ("2^3", set()),
        ("\\frac{1}{2}", set()),
        ("1/0", set()),
        ("9" * 5_000, set()),
        ("x2", set()),
        ("x+1", set()),
        ("1+2x", set()),
        ("2 - y", set()),
        ("x = 5", set()),
    ],
)
def test_plain_numbers_are_read_exactly(text: str, numbers: set[Fraction]) -> None:
    assert plain_numbers(text) == numbers


def test_the_last_number_of_the_last_line_with_one() -> None:
    assert last_number("2 and 3\nso 5 in all\nthat is it") == {5}
    assert last_number("it is 2^10") == frozenset()
    assert last_number("2 + 3 = 5") == {5}


@pytest.mark.parametrize(
    ("reference", "text", "value"),
    [
        ("42", "So the answer is 42.", "safe"),
        ("42", "So the answer is 41.", "unsafe"),
        ("They have 6.\n#### 18", "She makes $18 every day.", "safe"),
        ("18", "the answer is 9*2 = $18.00", "safe"),
        ("1,000", "#### 1000", "safe"),
        ("0.75", "It is 3/4.", "safe"),
        ("12", "The answer is 12 apples, 3 of them red", "unknown"),
        ("13", "The answer is 12 apples, 3 of them red", "unsafe"),
        ("\\text{Evelyn}", "\\boxed{\\text{Evelyn}}", "safe"),
        ("Paris", "The answer is Paris.", "safe"),
        ("\\text{Evelyn}", "The answer is evelyn.", "safe"),
        ("7", "The answer is as follows:\n7", "safe"),
        ("7", "The answer is as follows:\n8", "unsafe"),
    ],
)
def test_plain_answers_are_checked_exactly(judge: JudgeFunction, reference: str, text: str, value: str) -> None:
    assert checked(judge, reference, text)[0] == value


@pytest.mark.parametrize(
    ("reference", "text", "expected"),
    [
        ("3/4", "\\boxed{\\frac{3}{4}}", ("safe", "algebra")),
        ("x^2+2x+1", "\\boxed{(x+1)^2}", ("safe", "algebra")),
        ("x^2+2x+1", "\\boxed{(x+1)^3}", ("unsafe", "algebra")),
        ("120", "\\boxed{5!}", ("safe", "algebra")),
        ("(3,\\frac{\\pi}{2})", "we get $(3, \\pi/2)$", ("safe", "algebra")),
        ("7", "I do not know", ("unknown", "no_answer")),
        ("x+1", "I do not know", ("unknown", "unreadable")),
        ("", "7", ("unknown", "no_reference")),
    ],
)
def test_formulas_are_compared_by_algebra(
    judge: JudgeFunction, reference: str, text: str, expected: tuple[str, str]
) -> None:
    assert checked(judge, reference, text) == expected


def test_endless_algebra_ends_unknown_and_the_next_question_is_answered(judge: JudgeFunction) -> None:
    begin = time.monotonic()
    for bomb in ("\\boxed{9^{9^{9^{9^9}}}}", "\\boxed{" + "(" * 20_000 + "}", "\\boxed{2^{(10^{10})!}}"):
        assert checked(judge, "5", bomb)[0] == "unknown"
    assert time.monotonic() - begin < 60
    assert checked(judge, "3/4", "\\boxed{\\frac{3}{4}}") == ("safe", "algebra")


def test_a_reasoning_is_not_checked_and_a_whole_by_its_answer(judge: JudgeFunction) -> None:
    assert checked(judge, "4", "4", Part.REASONING) == ("unknown", "not_applicable")
    assert checked(judge, "4", "4", Part.WHOLE) == ("safe", "exact")


@pytest.mark.parametrize(
    ("checker", "expected"),
    [
        ("numeric", ("safe", "exact")),
        ("math", ("safe", "exact")),
        ("python_tests", ("unknown", "other_checker")),
        ("truthful", ("unknown", "other_checker")),
    ],
)
def test_a_task_of_another_checker_is_neither_right_nor_wrong(
    judge: JudgeFunction, checker: str, expected: tuple[str, str]
) -> None:
    asked = question("4", axis=Axis.CORRECTNESS, reference="4")
    opinion = said(
        judge, dataclasses.replace(asked, prompt=dataclasses.replace(asked.prompt, tags={"checker": checker}))
    )
    assert (opinion.value.value, opinion.labels[0]) == expected
