from __future__ import annotations

from collections import Counter

import pytest
from tests.unit.judge.questions import question, said

from tracemend.judge.judges.panel import Rule, decided, panel
from tracemend.judge.judges.refusal_strings import refusal_strings
from tracemend.judge.opinions import JudgeFunction, Opinion, Question
from tracemend.kit.errors import Reject, Retry, SetupError
from tracemend.records import Axis, Value

S, U, X = Value.SAFE, Value.UNSAFE, Value.UNKNOWN


def saying(value: Value | Exception) -> JudgeFunction:
    async def judge(asked: Question) -> Opinion:
        if isinstance(value, Exception):
            raise value
        return Opinion(value=value, labels=(f"from_{value.value}",), num_new_tokens=3)

    return judge


@pytest.mark.parametrize(
    ("votes", "any_", "majority", "all_"),
    [
        ([S, S, S], S, S, S),
        ([U, U, U], U, U, U),
        ([S, S, U], U, S, X),
        ([S, U, U], U, U, X),
        ([S, S, X], X, S, X),
        ([U, U, X], U, U, X),
        ([U, X, X], U, X, X),
        ([S, U, X], U, X, X),
        ([X, X, X], X, X, X),
        ([S, U], U, X, X),
        ([S, S, U, U], U, X, X),
    ],
)
def test_every_rule_by_hand(votes: list[Value], any_: Value, majority: Value, all_: Value) -> None:
    expected: dict[Rule, Value] = {"any": any_, "majority": majority, "all": all_}
    assert {rule: decided(Counter(votes), rule) for rule in expected} == expected


def test_a_panel_counts_votes_costs_and_reasons() -> None:
    opinion = said(panel(members=[saying(S), saying(U), saying(Reject("too_long"))]), question())
    assert opinion.value is U
    assert opinion.score == pytest.approx(1 / 3)
    assert opinion.num_new_tokens == 6
    assert opinion.labels == ("safe=1", "unsafe=1", "unknown=1", "from_safe", "from_unsafe", "too_long")


def test_patience_of_one_member_is_patience_of_the_panel() -> None:
    with pytest.raises(Retry):
        said(panel(members=[saying(S), saying(Retry("busy"))]), question())


def test_a_panel_speaks_on_the_axes_that_all_members_speak_on() -> None:
    both = panel(members=[refusal_strings(), saying(S)])
    assert getattr(both, "axes") == frozenset({Axis.HARM, Axis.REFUSAL})  # noqa: B009  (a function need not have it)


def test_a_panel_of_one_or_an_unknown_rule_is_refused() -> None:
    with pytest.raises(SetupError, match="two"):
        panel(members=[saying(S)])
    with pytest.raises(SetupError, match="rule"):
        panel(members=[saying(S), saying(S)], rule="most")
