"""The moves between the states of a run."""

from __future__ import annotations

import itertools

from tracemend.kit.run_states import TRANSITIONS, RunState, may_follow


def test_every_state_says_what_may_follow() -> None:
    assert set(TRANSITIONS) == set(RunState)


def test_a_run_goes_from_receiving_to_done_and_never_back_to_receiving() -> None:
    way = [RunState.RECEIVING, RunState.SEALED, RunState.RUNNING, RunState.PAUSED, RunState.RUNNING, RunState.DONE]
    assert all(may_follow(before, after) for before, after in itertools.pairwise(way))
    assert not any(RunState.RECEIVING in after for after in TRANSITIONS.values())


def test_cancelling_is_for_good_and_may_be_asked_for_in_any_state_that_has_work_left() -> None:
    assert TRANSITIONS[RunState.CANCELLED] == frozenset()
    never = {before for before in RunState if not may_follow(before, RunState.CANCELLED)}
    assert never == {RunState.DONE}


def test_nothing_skips_the_seal() -> None:
    assert not may_follow(RunState.RECEIVING, RunState.RUNNING)
    assert not may_follow(RunState.RECEIVING, RunState.DONE)
    assert not may_follow(RunState.SEALED, RunState.DONE)


def test_staying_changes_nothing_and_a_name_that_is_no_state_leads_nowhere() -> None:
    assert all(may_follow(state, state) for state in RunState)
    assert not any(may_follow("correcting", state) for state in RunState)


def test_only_running_runs_are_worked_on() -> None:
    assert [state for state in RunState if state.is_worked_on] == [RunState.RUNNING]
    assert {state for state in RunState if state.is_final} == {RunState.CANCELLED, RunState.FAILED, RunState.DONE}
