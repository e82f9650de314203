"""The paper's yield arithmetic, counted from outcomes."""

import math
from typing import Any

import pytest
from tests.builders import cue_at, forked, verdict, with_ids

from tracemend.corrector.yields import fork_yield, yield_by_trigger
from tracemend.records import Outcome, OutcomeState, Unit, Value, Verdict

ORIGINAL = verdict(Value.UNSAFE, with_ids(), cue=cue_at(3, 6))


def outcome(state: OutcomeState, number: int, *, trigger: str = "a", rounds: int = 0, is_cut: bool = False) -> Outcome:
    final: Verdict | None = None
    for _ in range(rounds):
        final = verdict(Value.SAFE, forked(final or ORIGINAL), cue=cue_at(0))
    return Outcome(
        id=f"outcome_{number}",
        unit=Unit(arm="ipo", prompt=f"prompt_{number}", sample=0, variant=trigger),
        state=state,
        final=final,
        original=ORIGINAL if rounds or is_cut else None,
    )


def papers() -> list[Outcome]:
    """A hundredth of the paper's run: 60 attempts, 36 unsafe, of which 14 are mended by one replacement."""
    kinds: list[tuple[OutcomeState, dict[str, Any]]] = [
        *[(OutcomeState.NOT_SELECTED, {})] * 24,
        *[(OutcomeState.CORRECTED, {"rounds": 1})] * 14,
        *[(OutcomeState.GAVE_UP, {"is_cut": True})] * 20,
        *[(OutcomeState.GAVE_UP, {})] * 2,
    ]
    return [outcome(state, number, **fields) for number, (state, fields) in enumerate(kinds)]


def test_the_product_is_the_number_of_pairs_that_one_replacement_each_gives() -> None:
    found = fork_yield(papers())
    assert (found.num_attempts, found.num_unsafe, found.num_cut, found.num_by_round) == (60, 36, 34, (14,))
    assert found.unsafe_share == pytest.approx(0.6)
    assert found.first_share == pytest.approx(14 / 36)
    assert found.expected_pairs == pytest.approx(14)


def test_the_curve_falls_by_what_each_round_accepts() -> None:
    ends = [outcome(OutcomeState.CORRECTED, n, rounds=r) for n, r in enumerate((1, 1, 1, 1, 2, 2, 4))]
    ends += [outcome(OutcomeState.GAVE_UP, 10 + n, is_cut=True) for n in range(3)]
    found = fork_yield(ends)
    assert found.num_by_round == (4, 2, 0, 1)
    assert found.num_corrected == 7
    assert found.remaining(5) == pytest.approx((1.0, 0.6, 0.4, 0.4, 0.3, 0.3))


def test_units_without_a_trigger_and_samples_that_were_never_judged_are_left_out() -> None:
    ends = [
        outcome(OutcomeState.KEPT, 1, trigger=""),
        outcome(OutcomeState.DEAD, 2),
        outcome(OutcomeState.CANCELLED, 3),
        outcome(OutcomeState.DEAD, 4, is_cut=True),
    ]
    found = fork_yield(ends)
    assert (found.num_attempts, found.num_unsafe, found.num_cut) == (1, 1, 1)


def test_nothing_gives_zero_and_no_division() -> None:
    found = fork_yield([])
    assert found.expected_pairs == found.unsafe_share == found.first_share == 0
    assert not any(math.isnan(share) for share in found.remaining(3))


def test_triggers_are_told_apart() -> None:
    ends = [
        outcome(OutcomeState.CORRECTED, 1, rounds=1),
        outcome(OutcomeState.GAVE_UP, 2, trigger="b", is_cut=True),
        outcome(OutcomeState.KEPT, 3, trigger=""),
    ]
    found = yield_by_trigger(ends)
    assert {trigger: each.first_share for trigger, each in found.items()} == {"a": 1.0, "b": 0.0}
