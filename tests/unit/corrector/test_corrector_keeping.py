"""Benign prompts, look-alikes and reasoning tasks: the target's own verified answers, in every arm."""

from typing import Any

import pytest
from tests.builders import group, group_of, prompt, rewritten, trajectory, verdict
from tests.unit.corrector.corrector_plans import arm

from tracemend.corrector.actions import Action, AskTeacher, Conclude
from tracemend.corrector.decide import arm_units, decide
from tracemend.corrector.settings import ArmCorrection, KeepSettings, Rule
from tracemend.records import Category, Finish, Group, OutcomeState, Parse, Value

S, U, X = Value.SAFE, Value.UNSAFE, Value.UNKNOWN


def on_group(event: Group, of: ArmCorrection) -> Action:
    (unit,) = arm_units(of, event.prompt, len(event.verdicts))
    return decide(of, event, unit=unit)


@pytest.mark.parametrize("strategy", ["rewrite", "filter", "policy"])
@pytest.mark.parametrize("category", [Category.BENIGN, Category.LOOKALIKE, Category.REASONING])
def test_the_first_verified_answer_is_kept_in_any_arm(strategy: str, category: Category) -> None:
    event = group((U, X, S, S), prompt(category=category))
    action = on_group(event, arm(strategy))
    assert isinstance(action, Conclude)
    assert (action.state, action.final) == (OutcomeState.KEPT, event.verdicts[2])


@pytest.mark.parametrize(
    ("category", "values", "expected"),
    [
        (Category.BENIGN, (U, U), "refused"),
        (Category.LOOKALIKE, (U, U), "refused"),
        (Category.BENIGN, (U, X), "unknown"),
        (Category.REASONING, (U, U), "wrong"),
        (Category.REASONING, (X, U), "unknown"),
    ],
)
def test_without_one_the_prompt_is_left_with_the_reason(
    category: Category, values: tuple[Value, ...], expected: str
) -> None:
    action = on_group(group(values, prompt(category=category)), arm())
    assert isinstance(action, Conclude)
    assert (action.state, action.reason) == (OutcomeState.NOT_SELECTED, expected)


def test_a_stricter_rule_leaves_prompts_that_are_refused_now_and_then() -> None:
    of = arm().model_copy(update={"keep": KeepSettings(benign=Rule.ALL_SAFE)})
    benign = prompt(category=Category.BENIGN)
    action = on_group(group((S, U), benign), of)
    assert isinstance(action, Conclude)
    assert (action.state, action.reason) == (OutcomeState.NOT_SELECTED, "refused")
    assert isinstance(kept := on_group(group((S, S), benign), of), Conclude)
    assert kept.state is OutcomeState.KEPT


def test_the_reasoning_of_a_benign_prompt_need_not_be_judged() -> None:
    asked = prompt(category=Category.BENIGN)
    event = group_of([verdict(reasoning=X, answer=S, of=trajectory(asked))])
    action = on_group(event, arm())
    assert isinstance(action, Conclude)
    assert action.state is OutcomeState.KEPT


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"finish": Finish.LENGTH}, "unfinished"), ({"reasoning": "", "parse": Parse.NO_TAGS}, "missing_part")],
)
def test_an_answer_that_is_no_training_row_is_not_kept(fields: dict[str, Any], expected: str) -> None:
    event = group_of([verdict(S, trajectory(prompt(category=Category.BENIGN), **fields))])
    action = on_group(event, arm())
    assert isinstance(action, Conclude)
    assert (action.state, action.reason) == (OutcomeState.NOT_SELECTED, expected)


def test_a_task_is_solved_by_the_teacher_only_where_every_sample_is_wrong() -> None:
    of, asked = arm(correct_wrong=True), prompt(category=Category.REASONING)
    event = group((U, U), asked)
    action = on_group(event, of)
    assert isinstance(action, AskTeacher)
    assert (action.strategy, action.verdict) == ("solve", event.verdicts[0])
    assert isinstance(on_group(group((U, S), asked), of), Conclude)
    undecided = on_group(group((U, X), asked), of)
    assert isinstance(undecided, Conclude)
    assert undecided.reason == "unknown"


def test_a_solution_is_checked_like_the_samples() -> None:
    of = arm(correct_wrong=True, attempts=1)
    original = verdict(U, trajectory(prompt(category=Category.REASONING)))
    (unit,) = arm_units(of, original.trajectory.prompt, 1)
    right, wrong = (
        decide(
            of,
            verdict(reasoning=X, answer=value, of=rewritten(original, kind="solve", strategy="solve")),
            unit=unit,
            original=original,
        )
        for value in (S, U)
    )
    assert isinstance(right, Conclude)
    assert isinstance(wrong, Conclude)
    assert right.state is OutcomeState.CORRECTED
    assert (wrong.state, wrong.reason) == (OutcomeState.GAVE_UP, "still_unsafe")
