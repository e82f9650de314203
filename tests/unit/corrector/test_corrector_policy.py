"""STAR-1: policy-written drafts, of which only full marks stay."""

from typing import Any

import pytest
from tests.builders import group, prompt, rewritten, verdict
from tests.needs import needs_data
from tests.unit.corrector.corrector_plans import arm

from tracemend.corrector.actions import Action, AskTeacher, Conclude
from tracemend.corrector.decide import arm_units, decide
from tracemend.corrector.policies import POLICIES, policy_for
from tracemend.corrector.settings import Rule
from tracemend.ingestion.rows import Row, sources
from tracemend.records import OutcomeState, Parse, Value

S, U, X = Value.SAFE, Value.UNSAFE, Value.UNKNOWN
FULL = {"safety": 10, "policy_relevance": 10, "reasoning_accuracy": 10}


def judged(value: Value, *, scores: dict[str, int], attempt: int = 1, **fields: Any) -> Action:
    of = arm("policy", options=fields.pop("options", {}))
    original = verdict(U)
    (unit,) = arm_units(of, original.trajectory.prompt, 1)
    draft = rewritten(original, attempt=attempt, kind="policy", strategy="policy", scores=scores, **fields)
    return decide(of, verdict(value, draft), unit=unit, original=original)


@pytest.mark.parametrize("values", [(S, S), (U, S), (X, X)])
def test_every_prompt_gets_its_drafts(values: tuple[Value, ...]) -> None:
    of, event = arm("policy", options={"drafts": 2}), group(values)
    units = arm_units(of, event.prompt, 2)
    assert [unit.variant for unit in units] == ["draft-0", "draft-1"]
    actions = [decide(of, event, unit=unit) for unit in units]
    assert all(isinstance(action, AskTeacher) and action.attempt == 1 for action in actions)


def test_hard_prompts_alone_where_the_rule_says_so() -> None:
    of = arm("policy", rule=Rule.ALL_UNSAFE)
    (unit,) = arm_units(of, prompt(), 2)
    assert isinstance(decide(of, group((U, U)), unit=unit), AskTeacher)
    easy = decide(of, group((U, S)), unit=unit)
    assert isinstance(easy, Conclude)
    assert (easy.state, easy.reason) == (OutcomeState.NOT_SELECTED, "not_all_unsafe")


def test_a_safe_draft_with_full_marks_is_accepted() -> None:
    action = judged(S, scores=FULL)
    assert isinstance(action, Conclude)
    assert action.state is OutcomeState.CORRECTED


@pytest.mark.parametrize("criterion", sorted(FULL))
def test_one_mark_below_full_is_not_selected(criterion: str) -> None:
    action = judged(S, scores={**FULL, criterion: 9})
    assert isinstance(action, Conclude)
    assert (action.state, action.reason, action.final) == (OutcomeState.NOT_SELECTED, "below_full_marks", None)
    assert isinstance(relaxed := judged(S, scores={**FULL, criterion: 9}, options={"min_score": 9}), Conclude)
    assert relaxed.state is OutcomeState.CORRECTED


@pytest.mark.parametrize(
    ("value", "scores", "fields", "expected"),
    [
        (S, {}, {}, "unscored"),
        (S, {"safety": 10}, {}, "unscored"),
        (U, FULL, {}, "still_unsafe"),
        (X, FULL, {}, "unknown_verdict"),
        (S, {}, {"failure": "malformed_reply", "parse": Parse.NO_TAGS}, "malformed_reply"),
    ],
)
def test_other_drafts_are_written_again_and_then_given_up(
    value: Value, scores: dict[str, int], fields: dict[str, Any], expected: str
) -> None:
    again = judged(value, scores=scores, **fields)
    assert isinstance(again, AskTeacher)
    assert again.feedback == expected
    last = judged(value, scores=scores, attempt=3, **fields)
    assert isinstance(last, Conclude)
    assert (last.state, last.reason) == (OutcomeState.GAVE_UP, expected)


def test_unscored_drafts_need_the_judge_alone_where_scoring_is_off() -> None:
    action = judged(S, scores={}, options={"is_scored": False})
    assert isinstance(action, Conclude)
    assert action.state is OutcomeState.CORRECTED


def test_the_policy_follows_the_category_tags() -> None:
    assert policy_for({"category": "privacy"}) == POLICIES["privacy"].text()
    both = policy_for({"category": "Self-harm; illicit"})
    assert POLICIES["self_harm"].text() in both
    assert POLICIES["illicit"].text() in both
    assert POLICIES["privacy"].text() not in both


# The categories as STAR-1's rows name them (methods.md §4.3 [R]); its preset puts them into the tag `harm`.
STAR1 = {
    "Harassment / Hate / Discrimination": "harassment_hate",
    "Sexual / Adult": "sexual",
    "Violence / Physical Harm": "violence",
    "Self-Harm": "self_harm",
    "Illicit / Criminal Behavior": "illicit",
    "Misinformation / Disinformation": "misinformation",
    "Privacy / Personal Data": "privacy",
    "Intellectual Property": "intellectual_property",
}


def test_each_of_the_papers_categories_has_its_policy() -> None:
    assert set(STAR1.values()) == set(POLICIES)
    for name, policy in STAR1.items():
        assert policy_for({"harm": name}) == POLICIES[policy].text()
    several = policy_for({"harm": ", ".join(STAR1), "origin": "somewhere"})
    assert all(policy.text() in several for policy in POLICIES.values())


@pytest.mark.parametrize("name", ["star1", "strongreject", "harmbench", "simple_safety_tests"])
def test_rows_of_the_public_sets_bring_policies_of_their_own(name: str) -> None:
    data = str(needs_data())
    rows = [row for row in sources.create("preset", name=name, data=data) if isinstance(row, Row)]
    brief = policy_for({})
    found = [policy_for(row.tags) != brief for row in rows]
    # A few categories ("harmful", chemistry, child safety) fit no single policy.
    assert sum(found) > (0.99 if name == "star1" else 0.7) * len(found) > 0


@pytest.mark.parametrize("tags", [{}, {"category": ""}, {"category": "gardening"}])
def test_an_unknown_category_gets_all_policies_in_brief(tags: dict[str, str]) -> None:
    brief = policy_for(tags)
    assert all(policy.objective in brief for policy in POLICIES.values())
    assert len(POLICIES) == 8


def test_every_policy_has_an_objective_and_three_ways_out() -> None:
    assert all(policy.objective and len(policy.rules) == 3 for policy in POLICIES.values())
