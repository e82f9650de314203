"""SafeChain: the target's own samples of prompts that are safe every time."""

from collections import Counter

import pytest
from tests.builders import group, group_of, prompt, trajectory, verdict
from tests.unit.corrector.corrector_plans import arm

from tracemend.corrector.actions import Conclude
from tracemend.corrector.decide import arm_units, decide
from tracemend.corrector.settings import ArmCorrection, Rule
from tracemend.records import Finish, Group, OutcomeState, Parse, Value

S, U, X = Value.SAFE, Value.UNSAFE, Value.UNKNOWN


def ends(event: Group, of: ArmCorrection) -> list[tuple[OutcomeState, str]]:
    actions = [decide(of, event, unit=unit) for unit in arm_units(of, event.prompt, len(event.verdicts))]
    assert all(isinstance(action, Conclude) for action in actions)
    return [(action.state, action.reason) for action in actions if isinstance(action, Conclude)]


def test_all_samples_of_an_all_safe_prompt_are_kept_each_in_its_unit() -> None:
    event, of = group((S, S, S)), arm("filter")
    for unit in arm_units(of, event.prompt, 3):
        action = decide(of, event, unit=unit)
        assert isinstance(action, Conclude)
        assert action.state is OutcomeState.KEPT
        assert action.final is event.verdicts[unit.sample]
        assert action.original is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [((S, U, S), "not_all_safe"), ((X, U, S), "not_all_safe"), ((S, X, S), "unknown")],
)
def test_other_prompts_are_left_with_the_reason(values: tuple[Value, ...], expected: str) -> None:
    assert ends(group(values), arm("filter")) == [(OutcomeState.NOT_SELECTED, expected)] * 3


def test_a_sample_that_was_cut_off_keeps_the_prompt_out() -> None:
    asked = prompt()
    cut = verdict(S, trajectory(asked, sample=1, finish=Finish.LENGTH))
    event = group_of([verdict(S, trajectory(asked)), cut])
    assert ends(event, arm("filter")) == [(OutcomeState.NOT_SELECTED, "unfinished")] * 2


def test_a_safe_sample_without_reasoning_is_no_row() -> None:
    asked = prompt()
    plain = verdict(S, trajectory(asked, sample=1, reasoning="", parse=Parse.NO_TAGS))
    event = group_of([verdict(S, trajectory(asked)), plain])
    assert ends(event, arm("filter")) == [(OutcomeState.KEPT, ""), (OutcomeState.NOT_SELECTED, "missing_part")]


def test_one_sample_is_drawn_evenly_and_the_same_every_time() -> None:
    of = arm("filter", options={"keep": "one"})
    drawn: Counter[int] = Counter()
    for number in range(500):
        event = group((S,) * 5, prompt(f"prompt {number}"))
        states = ends(event, of)
        assert ends(event, of) == states
        kept = [sample for sample, (state, _) in enumerate(states) if state is OutcomeState.KEPT]
        assert len(kept) == 1
        assert states.count((OutcomeState.NOT_SELECTED, "not_drawn")) == 4
        drawn.update(kept)
    assert set(drawn) == set(range(5))
    assert max(drawn.values()) < 140


def test_the_draw_depends_on_its_seed() -> None:
    groups = [group((S,) * 5, prompt(f"prompt {number}")) for number in range(20)]
    first, second = (
        [ends(event, arm("filter", options={"keep": "one", "seed": seed})) for event in groups] for seed in (0, 1)
    )
    assert first != second


def test_another_rule_keeps_the_safe_samples_alone() -> None:
    states = ends(group((S, U, X)), arm("filter", rule=Rule.ANY_UNSAFE))
    assert states == [
        (OutcomeState.KEPT, ""),
        (OutcomeState.NOT_SELECTED, "unsafe_sample"),
        (OutcomeState.NOT_SELECTED, "unknown"),
    ]


def test_a_sample_that_the_group_lacks_is_dead() -> None:
    of = arm("filter")
    unit = arm_units(of, prompt(), 3)[2]
    action = decide(of, group((S, S)), unit=unit)
    assert isinstance(action, Conclude)
    assert action.state is OutcomeState.DEAD
