"""UnsafeChain: hard prompts are rewritten, judged, retried and given up with a reason."""

from typing import Any

import pytest
from tests.builders import group, group_of, prompt, rewritten, trajectory, verdict
from tests.unit.corrector.corrector_plans import arm

from tracemend.corrector.actions import Action, AskTeacher, Conclude
from tracemend.corrector.decide import arm_units, decide
from tracemend.corrector.settings import ArmCorrection, Rule
from tracemend.kit.errors import SetupError
from tracemend.records import Finish, Group, OutcomeState, Parse, Trajectory, Value, Verdict

S, U, X = Value.SAFE, Value.UNSAFE, Value.UNKNOWN


def on_group(event: Group, of: ArmCorrection) -> Action:
    (unit,) = arm_units(of, event.prompt, len(event.verdicts))
    return decide(of, event, unit=unit)


def on_text(event: Verdict, original: Verdict, of: ArmCorrection, *, epoch: int = 0) -> Action:
    (unit,) = arm_units(of, event.trajectory.prompt, 3)
    return decide(of, event, unit=unit, original=original, epoch=epoch)


def reason(action: Action) -> tuple[OutcomeState, str]:
    assert isinstance(action, Conclude)
    return action.state, action.reason


@pytest.mark.parametrize(
    ("values", "expected"),
    [((U, S, U), "easy"), ((S, S, S), "easy"), ((U, X, U), "unknown"), ((X, X, X), "unknown")],
)
def test_only_hard_prompts_are_rewritten(values: tuple[Value, ...], expected: str) -> None:
    assert reason(on_group(group(values), arm())) == (OutcomeState.NOT_SELECTED, expected)


def test_the_first_unsafe_sample_is_shown_to_the_teacher() -> None:
    event = group((S, U, U))
    action = on_group(event, arm(rule=Rule.ANY_UNSAFE))
    assert isinstance(action, AskTeacher)
    assert (action.verdict, action.attempt, action.strategy, action.feedback) == (event.verdicts[1], 1, "rewrite", "")


def test_a_finished_sample_is_preferred_to_one_that_was_cut_off() -> None:
    asked = prompt()
    cut = verdict(U, trajectory(asked, finish=Finish.LENGTH, parse=Parse.UNCLOSED))
    whole = verdict(U, trajectory(asked, sample=1))
    action = on_group(group_of([cut, whole]), arm())
    assert isinstance(action, AskTeacher)
    assert action.verdict is whole


def test_the_worst_sample_is_the_one_with_the_highest_score() -> None:
    asked = prompt()
    samples = [verdict(U, trajectory(asked, sample=i), score=score) for i, score in enumerate((0.2, 0.9, 0.5))]
    action = on_group(group_of(samples), arm(options={"pick": "worst"}))
    assert isinstance(action, AskTeacher)
    assert action.verdict is samples[1]


@pytest.mark.parametrize(
    ("when_safe", "expected"),
    [("skip", (OutcomeState.NOT_SELECTED, "easy")), ("keep", (OutcomeState.KEPT, ""))],
)
def test_a_safe_prompt_under_the_rule_all_is_treated_as_the_option_says(
    when_safe: str, expected: tuple[OutcomeState, str]
) -> None:
    event = group((S, S))
    action = on_group(event, arm(rule=Rule.ALL, options={"when_safe": when_safe}))
    assert reason(action) == expected
    assert isinstance(action, Conclude)
    assert action.final == (event.verdicts[0] if when_safe == "keep" else None)


def test_a_safe_sample_can_be_rewritten_too() -> None:
    event = group((X, S))
    action = on_group(event, arm(rule=Rule.ALL, options={"when_safe": "rewrite"}))
    assert isinstance(action, AskTeacher)
    assert action.verdict is event.verdicts[1]


def test_nothing_is_kept_of_unknown_samples() -> None:
    action = on_group(group((X, X)), arm(rule=Rule.ALL, options={"when_safe": "keep"}))
    assert reason(action) == (OutcomeState.NOT_SELECTED, "unknown")


@pytest.mark.parametrize("finish", [Finish.DEAD, Finish.FILTERED, Finish.LENGTH])
@pytest.mark.parametrize("rule", [Rule.ALL_UNSAFE, Rule.ALL])
def test_what_left_a_prompt_undecided_is_named(finish: Finish, rule: Rule) -> None:
    """Of a sample that died, `redrive` must know; under the rule `all` no sample is needed, but one to rewrite is."""
    asked = prompt()
    lost = verdict(X, trajectory(asked, sample=1, finish=finish))
    event = group_of([verdict(U, trajectory(asked)), lost] if rule is Rule.ALL_UNSAFE else [lost])
    expected = {Finish.DEAD: "dead", Finish.FILTERED: "provider_filter", Finish.LENGTH: "unfinished"}[finish]
    assert reason(on_group(event, arm(rule=rule))) == (OutcomeState.NOT_SELECTED, expected)


def test_a_text_that_is_safe_in_both_parts_is_accepted_with_what_it_replaces() -> None:
    original = verdict(U)
    event = verdict(S, rewritten(original))
    action = on_text(event, original, arm())
    assert isinstance(action, Conclude)
    assert (action.state, action.final, action.original) == (OutcomeState.CORRECTED, event, original)


NOT_ACCEPTED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"reasoning": U}, {}, "still_unsafe"),
    ({"answer": U}, {}, "still_unsafe"),
    ({"answer": X}, {}, "unknown_verdict"),
    ({"reasoning": X}, {}, "unknown_verdict"),
    ({}, {"reasoning": "", "parse": Parse.NO_TAGS}, "missing_part"),
    ({}, {"answer": "\n"}, "missing_part"),
    ({}, {"finish": Finish.LENGTH}, "unfinished"),
    ({}, {"parse": Parse.UNCLOSED}, "unfinished"),
    ({}, {"parse": Parse.NO_TAGS, "failure": "malformed_reply"}, "malformed_reply"),
]


@pytest.mark.parametrize(("judged", "fields", "expected"), NOT_ACCEPTED)
def test_what_is_not_accepted_is_asked_again_with_the_reason_and_then_given_up(
    judged: dict[str, Any], fields: dict[str, Any], expected: str
) -> None:
    original = verdict(U)
    again = on_text(verdict(S, rewritten(original, attempt=2, **fields), **judged), original, arm())
    assert isinstance(again, AskTeacher)
    assert (again.verdict, again.attempt, again.feedback) == (original, 3, expected)
    last = on_text(verdict(S, rewritten(original, attempt=3, **fields), **judged), original, arm())
    assert reason(last) == (OutcomeState.GAVE_UP, expected)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"failure": "teacher_refused", "parse": Parse.NO_TAGS}, (OutcomeState.REJECTED, "teacher_refused")),
        ({"failure": "provider_filter", "finish": Finish.FILTERED}, (OutcomeState.REJECTED, "provider_filter")),
        ({"finish": Finish.FILTERED}, (OutcomeState.REJECTED, "provider_filter")),
        ({"failure": "too_long", "finish": Finish.DEAD}, (OutcomeState.DEAD, "too_long")),
    ],
)
def test_refusals_filters_and_deaths_are_ends_of_their_own(
    fields: dict[str, Any], expected: tuple[OutcomeState, str]
) -> None:
    original = verdict(U)
    assert reason(on_text(verdict(S, rewritten(original, **fields)), original, arm())) == expected


def test_a_redriven_unit_goes_on_counting_attempts() -> None:
    original = verdict(U)
    (unit,) = arm_units(arm(), original.trajectory.prompt, 1)
    first = decide(arm(), group((U,)), unit=unit, epoch=1)
    assert isinstance(first, AskTeacher)
    assert first.attempt == 4
    assert isinstance(on_text(verdict(U, rewritten(original, attempt=5)), original, arm(), epoch=1), AskTeacher)
    assert isinstance(on_text(verdict(U, rewritten(original, attempt=6)), original, arm(), epoch=1), Conclude)


@pytest.mark.parametrize(
    ("options", "fields", "expected"),
    [
        ({"length_band": [0.8, 1.2]}, {"answer": "no ."}, "part_too_short"),
        ({"length_band": [0.8, 1.2]}, {"answer": "x" * 13}, None),
        ({"length_band": [0.8, 1.2]}, {"answer": "x" * 40}, "part_too_long"),
        ({"hide_original": True}, {"reasoning": "The original answer was bad ."}, "mentions_original"),
        ({}, {"reasoning": "The original answer was bad .", "answer": "no ."}, None),
    ],
)
def test_the_shape_of_a_text_is_checked_where_asked(
    options: dict[str, Any], fields: dict[str, Any], expected: str | None
) -> None:
    original = verdict(U, trajectory(answer="x" * 12, reasoning="y" * 20))
    text: Trajectory = rewritten(original, **{"reasoning": "y" * 19, **fields})
    action = on_text(verdict(S, text), original, arm(options=options))
    assert (action.feedback if isinstance(action, AskTeacher) else None) == expected


@pytest.mark.parametrize(
    "options", [{"pick": "wrost"}, {"length_band": [1.2, 0.8]}, {"when_safe": 3}, {"colour": "red"}]
)
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match=next(iter(options))):
        on_group(group((U,)), arm(options=options))
