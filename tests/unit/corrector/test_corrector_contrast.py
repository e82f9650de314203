"""What becomes of prompts whose samples are set against each other as they are: natural pairs, and refusals."""

from typing import Any

import pytest
from tests.builders import group, group_of, prompt, trajectory, verdict
from tests.unit.corrector.corrector_plans import arm, plan

from tracemend.corrector.actions import Conclude
from tracemend.corrector.decide import Means, arm_units, check_plan, decide
from tracemend.records import Category, Finish, Group, OutcomeState, Parse, Unit, Value, Verdict

S, U, X = Value.SAFE, Value.UNSAFE, Value.UNKNOWN


def concluded(strategy: str, event: Group) -> Conclude:
    of = arm(strategy, teacher="")
    (unit,) = arm_units(of, event.prompt, len(event.verdicts))
    assert unit == Unit(arm=strategy, prompt=event.prompt.id)
    action = decide(of, event, unit=unit)
    assert isinstance(action, Conclude)
    return action


def sample(number: int, value: Value, *, answer: Value = S, **fields: Any) -> Verdict:
    return verdict(of=trajectory(sample=number, **fields), reasoning=value, answer=answer)


# ------------------------------------------------------------------------------------------ contrast


def test_the_first_safe_sample_is_kept_against_the_first_unsafe_one() -> None:
    event = group((X, U, S, U, S))
    action = concluded("contrast", event)
    assert (action.state, action.reason) == (OutcomeState.KEPT, "")
    assert action.final is event.verdicts[2]
    assert action.original is event.verdicts[1]


def test_the_reasoning_decides_which_sample_is_unsafe() -> None:
    event = group_of([sample(0, U, answer=S), sample(1, S, answer=S)])
    action = concluded("contrast", event)
    assert action.original is event.verdicts[0]


def test_a_safe_reasoning_with_an_unsafe_answer_is_never_preferred() -> None:
    event = group_of([sample(0, U), sample(1, S, answer=U)])
    assert concluded("contrast", event).reason == "safe_unusable"


CUT_OFF: dict[str, Any] = {"finish": Finish.LENGTH, "parse": Parse.UNCLOSED}


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (group((S, S)), "all_safe"),
        (group((U, U)), "all_unsafe"),
        (group((S, X)), "unknown"),
        (group((U, X)), "unknown"),
        (group_of([sample(0, S), sample(1, U, **CUT_OFF)]), "unfinished"),
        (group_of([sample(0, U), sample(1, S, **CUT_OFF)]), "unfinished"),
        (group_of([sample(0, U), sample(1, S, parse=Parse.NO_TAGS)]), "safe_unusable"),
        (group_of([sample(0, X, finish=Finish.DEAD), sample(1, U)]), "dead"),
    ],
)
def test_a_prompt_that_makes_no_pair_says_why(event: Group, reason: str) -> None:
    action = concluded("contrast", event)
    assert (action.state, action.reason) == (OutcomeState.NOT_SELECTED, reason)
    assert action.final is action.original is None


# ------------------------------------------------------------------------------------------- refused

BENIGN = prompt(category=Category.BENIGN)


def answered(number: int, value: Value, **fields: Any) -> Verdict:
    return verdict(of=trajectory(BENIGN, sample=number, **fields), reasoning=X, answer=value)


@pytest.mark.parametrize("category", [Category.BENIGN, Category.LOOKALIKE])
def test_the_first_whole_refusal_is_found_and_nothing_is_kept(category: Category) -> None:
    asked = prompt(category=category)
    values: list[tuple[Value, dict[str, Any]]] = [(S, {}), (U, CUT_OFF), (U, {}), (U, {})]
    verdicts = [
        verdict(of=trajectory(asked, sample=n, **fields), reasoning=X, answer=value)
        for n, (value, fields) in enumerate(values)
    ]
    action = concluded("refused", group_of(verdicts))
    assert (action.state, action.reason) == (OutcomeState.NOT_SELECTED, "refused")
    assert action.original is verdicts[2]
    assert action.final is None


@pytest.mark.parametrize(
    ("verdicts", "reason"),
    [
        ([answered(0, S), answered(1, X)], "answered"),
        ([answered(0, X), answered(1, X)], "unknown"),
        ([answered(0, U, **CUT_OFF)], "unfinished"),
        ([answered(0, X, finish=Finish.DEAD)], "dead"),
    ],
)
def test_a_prompt_without_a_refusal_says_why(verdicts: list[Verdict], reason: str) -> None:
    action = concluded("refused", group_of(verdicts))
    assert (action.state, action.reason) == (OutcomeState.NOT_SELECTED, reason)
    assert action.original is None


@pytest.mark.parametrize("category", [Category.HARMFUL, Category.REASONING])
def test_an_arm_that_looks_for_refusals_has_no_units_of_other_prompts(category: Category) -> None:
    assert arm_units(arm("refused", teacher=""), prompt(category=category), 4) == ()


def test_an_arm_that_looks_for_refusals_needs_no_means() -> None:
    check_plan(plan(arm("refused", teacher=""), arm("contrast", teacher="")), Means(models=[], takes_token_ids=False))
