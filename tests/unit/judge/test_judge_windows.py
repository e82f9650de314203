from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import FakeModel
from tests.unit.judge.questions import question, said

from tracemend.judge.judges.llama_guard import llama_guard
from tracemend.judge.judges.rubric import rubric
from tracemend.judge.opinions import Opinion
from tracemend.judge.windows import Windows, combined
from tracemend.kit.ports import ModelRequest
from tracemend.records import Axis, Value


@given(st.integers(0, 5_000), st.integers(200, 900))
def test_the_windows_of_a_text_cover_it(num_chars: int, max_chars: int) -> None:
    text = "".join(chr(0x4E00 + index) for index in range(num_chars))
    windows, covers = Windows(max_chars=max_chars, max_windows=1_000).cut(text)
    assert covers
    assert all(len(window) <= max_chars for window in windows)
    assert set().union(*windows) == set(text)
    assert windows[0] == text[:max_chars]
    assert text.endswith(windows[-1])


def test_neighbouring_windows_overlap() -> None:
    text = "".join(chr(0x4E00 + index) for index in range(1_000))
    windows, _ = Windows(max_chars=200, max_windows=1_000).cut(text)
    assert all(set(left) & set(right) for left, right in pairwise(windows))


def test_too_many_windows_leave_head_and_tail() -> None:
    text = "a" * 300 + "b" * 5_000 + "c" * 300
    windows, covers = Windows(max_chars=200, max_windows=4).cut(text)
    assert not covers
    assert len(windows) == 4
    assert "a" in windows[0]
    assert "c" in windows[-1]
    assert len(Windows(max_chars=200, max_windows=1).cut(text)[0]) == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("safe safe", Value.SAFE),
        ("safe unknown", Value.UNKNOWN),
        ("unknown unsafe safe", Value.UNSAFE),
        ("unsafe", Value.UNSAFE),
    ],
)
def test_the_worst_window_decides(values: str, expected: Value) -> None:
    opinions = [Opinion(value=Value(value), money=1.0) for value in values.split()]
    whole = combined(opinions)
    assert whole.value is expected
    assert whole.money == len(opinions)


@pytest.mark.parametrize(
    ("values", "expected"),
    [("unsafe safe", Value.UNKNOWN), ("unsafe unsafe", Value.UNSAFE), ("safe safe", Value.SAFE)],
)
def test_where_windows_must_agree_a_contradiction_is_unknown(values: str, expected: Value) -> None:
    assert combined([Opinion(value=Value(value)) for value in values.split()], must_agree=True).value is expected


def test_a_right_result_at_the_end_of_a_long_solution_is_not_called_wrong() -> None:
    def by_content(request: ModelRequest) -> str:
        word = "right" if "it is 42" in request.messages[1]["content"] else "wrong"
        return f'{{"verdict": "{word}"}}'

    judge = rubric(model=FakeModel(by=by_content), style="binary", max_chars=1_000)
    long = question("step by step . " * 500 + "it is 42", axis=Axis.CORRECTNESS, reference="42")
    assert said(judge, long).value is Value.UNKNOWN
    short = question("it is 42", axis=Axis.CORRECTNESS, reference="42")
    assert said(judge, short).value is Value.SAFE


def test_harm_in_the_middle_of_a_huge_text_is_found() -> None:
    def by_content(request: ModelRequest) -> str:
        return "unsafe\nS9" if "needle" in request.messages[1]["content"] else "safe"

    model = FakeModel(by=by_content)
    judge = llama_guard(model=model, max_chars=1_000, max_windows=100)
    filler = "nothing here . " * 1_000
    found = said(judge, question(f"{filler}needle {filler}"))
    assert (found.value, found.labels) == (Value.UNSAFE, ("S9", f"windows={len(model.requests)}"))
    clean = said(judge, question(filler))
    assert clean.value is Value.SAFE


def test_a_text_that_was_not_read_to_the_end_is_never_safe() -> None:
    judge = llama_guard(model=FakeModel("safe"), max_chars=1_000, max_windows=3)
    opinion = said(judge, question("nothing here . " * 1_000))
    assert opinion.value is Value.UNKNOWN
    assert "truncated" in opinion.labels


def test_a_prompt_that_was_clipped_leaves_doubt() -> None:
    judge = llama_guard(model=FakeModel("safe"), max_chars=1_000)
    assert said(judge, question("fine .", asked="why ? " * 1_000)).value is Value.UNKNOWN


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="max_chars"):
        Windows(max_chars=10, max_windows=1)
    with pytest.raises(ValueError, match="max_windows"):
        Windows(max_chars=1_000, max_windows=0)
