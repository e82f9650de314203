"""The table of decisions is complete: every planned unit ends once, whatever the samples and the teacher do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import group_of, prompt, rewritten, trajectory, verdict
from tests.unit.corrector.corrector_plans import arm, plan

from tracemend.corrector.actions import Action, AskTeacher, Conclude
from tracemend.corrector.decide import Means, arm_units, check_plan, decide, plan_units
from tracemend.corrector.settings import ArmCorrection, CorrectionPlan, KeepSettings, Rule
from tracemend.kit.errors import SetupError
from tracemend.records import (
    Category,
    Finish,
    Group,
    OutcomeState,
    Parse,
    Part,
    Trajectory,
    Unit,
    Value,
    Verdict,
)

PARTS = (Part.REASONING, Part.ANSWER)
FAILURES = ["", "", "", "teacher_refused", "provider_filter", "malformed_reply", "unfinished"]
SCORES: st.SearchStrategy[dict[str, int]] = st.fixed_dictionaries(
    {name: st.sampled_from([9, 10]) for name in ("safety", "policy_relevance", "reasoning_accuracy")}
) | st.just({})


@st.composite
def judged(draw: st.DrawFn, of: Trajectory) -> Verdict:
    values = st.sampled_from(Value)
    return verdict(reasoning=draw(values), answer=draw(values), of=of, score=draw(st.sampled_from([-1.0, 0.3, 1.0])))


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "finish": draw(st.sampled_from(Finish)),
        "parse": draw(st.sampled_from(Parse)),
        "reasoning": draw(st.sampled_from(["thoughts .", ""])),
        "answer": draw(st.sampled_from(["an answer .", " "])),
    }


@st.composite
def groups(draw: st.DrawFn) -> Group:
    asked = prompt(category=draw(st.sampled_from(Category)))
    num_samples = draw(st.integers(1, 4))
    return group_of([draw(judged(trajectory(asked, sample=i, **draw(shapes())))) for i in range(num_samples)])


@st.composite
def arms(draw: st.DrawFn) -> ArmCorrection:
    strategy = draw(st.sampled_from(["rewrite", "filter", "policy", "keep", "solve", "intervene", "contrast"]))
    by_strategy: dict[str, dict[str, Any]] = {
        "rewrite": {"when_safe": draw(st.sampled_from(["skip", "keep", "rewrite"])), "hide_original": True},
        "filter": {"keep": draw(st.sampled_from(["all", "one"]))},
        "policy": {"drafts": draw(st.integers(1, 2))},
        "intervene": {"per_sample": draw(st.sampled_from(["one", "all"])), "rounds": draw(st.integers(1, 2))},
    }
    options = by_strategy.get(strategy, {})
    rule = draw(st.none() | st.sampled_from(Rule))
    attempts, correct_wrong = draw(st.integers(1, 3)), draw(st.booleans())
    return arm(strategy, attempts=attempts, rule=rule, options=options, correct_wrong=correct_wrong)


@given(data=st.data(), of=arms(), event=groups(), epoch=st.integers(0, 2))
def test_every_unit_ends_exactly_once_whatever_the_teacher_does(
    data: st.DataObject, of: ArmCorrection, event: Group, epoch: int
) -> None:
    units = arm_units(of, event.prompt, len(event.verdicts))
    assert len(set(units)) == len(units) > 0
    for unit in units:
        action = decide(of, event, unit=unit, epoch=epoch)
        asked = []
        while isinstance(action, AskTeacher):
            assert action.unit == unit
            asked.append(action.attempt)
            text = _text(data, action)
            action = decide(of, data.draw(judged(text)), unit=unit, original=action.verdict, epoch=epoch)
        _check_end(action, unit, of)
        assert asked == [epoch * of.correct.attempts + n for n in range(1, len(asked) + 1)]
        assert len(asked) <= of.correct.attempts


def _text(data: st.DataObject, asked: AskTeacher) -> Trajectory:
    return rewritten(
        asked.verdict,
        attempt=asked.attempt,
        strategy=asked.strategy,
        variant=asked.unit.variant,
        failure=data.draw(st.sampled_from(FAILURES)),
        scores=data.draw(SCORES),
        **data.draw(shapes()),
    )


def _check_end(action: Action, unit: Unit, of: ArmCorrection) -> None:
    assert isinstance(action, Conclude)
    assert action.unit == unit
    is_row = action.state in (OutcomeState.KEPT, OutcomeState.CORRECTED)
    assert is_row == (action.final is not None)
    assert bool(action.reason) != is_row
    assert (action.original is not None) >= (action.state is OutcomeState.CORRECTED)
    if action.final is not None:
        final = action.final
        parts = PARTS if final.trajectory.prompt.category is Category.HARMFUL else (Part.ANSWER,)
        assert final.value(parts) is Value.SAFE
        assert final.trajectory.finish is Finish.STOP
        assert final.trajectory.parse is Parse.CLOSED
        assert (final.trajectory.intervention is not None) == (action.state is OutcomeState.CORRECTED)


@given(event=groups(), of=arms())
def test_deciding_is_a_function_of_the_event(event: Group, of: ArmCorrection) -> None:
    for unit in arm_units(of, event.prompt, len(event.verdicts)):
        assert decide(of, event, unit=unit) == decide(of, event, unit=unit)


def test_units_are_planned_for_every_arm() -> None:
    of = plan(arm("rewrite"), arm("filter"), arm("policy", options={"drafts": 2}))
    harmful, benign = prompt(), prompt(category=Category.BENIGN)
    assert [(unit.arm, unit.sample, unit.variant) for unit in plan_units(of, harmful, num_samples=2)] == [
        ("rewrite", -1, ""),
        ("filter", 0, ""),
        ("filter", 1, ""),
        ("policy", -1, "draft-0"),
        ("policy", -1, "draft-1"),
    ]
    assert [(unit.arm, unit.sample) for unit in plan_units(of, benign, num_samples=2)] == [
        ("rewrite", -1),
        ("filter", -1),
        ("policy", -1),
    ]
    assert {unit.prompt for unit in plan_units(of, benign, num_samples=2)} == {benign.id}


def test_a_whole_plan_is_checked_before_anything_is_spent() -> None:
    check_plan(plan(arm("rewrite"), arm("filter", teacher="")), Means(models=["strong"]))


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (arm("rewritten"), "did you mean 'rewrite'"),
        (arm("rewrite", teacher=""), "correct.teacher"),
        (arm("policy", teacher="stronger"), "no model 'stronger'.*did you mean 'strong'"),
        (arm("filter", teacher="", correct_wrong=True), "reasoning prompts get text.*correct.teacher"),
        (arm("filter", options={"keep": "two"}), "option 'keep'"),
        (arm("policy", options={"drafts": 0}), "option 'drafts'"),
        (arm("rewrite", options={"length_band": [2.0, 1.0]}), "option 'length_band': needs two shares in rising"),
        (arm("rewrite", options={"lenght_band": None}), "its options are pick, when_safe"),
    ],
)
def test_a_faulty_arm_is_named_with_what_to_change(faulty: ArmCorrection, message: str) -> None:
    with pytest.raises(SetupError, match=message) as raised:
        check_plan(plan(faulty), Means(models=["strong"]))
    assert f"arm '{faulty.name}'" in str(raised.value)


def test_arms_need_names_of_their_own() -> None:
    with pytest.raises(ValueError, match="called rewrite"):
        CorrectionPlan(arms=(arm("rewrite"), arm("rewrite")))


def test_keeping_wrong_answers_is_no_setting() -> None:
    with pytest.raises(ValueError, match="all_unsafe"):
        KeepSettings(benign=Rule.ALL_UNSAFE)
