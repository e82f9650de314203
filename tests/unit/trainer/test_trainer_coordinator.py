"""What the coordinator decides, for every way in which a run can stand."""

from __future__ import annotations

import dataclasses

import pytest

from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import JobRecord, JobState
from tracemend.trainer.coordinator import (
    BACKOFF_S,
    MAX_ATTEMPTS,
    Action,
    CloseUnits,
    Fail,
    Finish,
    Launch,
    Pause,
    Rest,
    Standing,
    Wait,
    reconcile,
)

ENDED = Standing(state=RunState.RUNNING, is_sealed=True, num_units=4, num_ended=4, num_open=0, now_s=1000.0)
JOB = JobRecord(key="job", plan="plan", attempt=1, updated_s=1000.0)


def standing(**changes: object) -> Standing:
    return dataclasses.replace(ENDED, **changes)  # type: ignore[arg-type]  # a test names the fields


def job(state: JobState, **changes: object) -> JobRecord:
    return dataclasses.replace(JOB, state=state, **changes)  # type: ignore[arg-type]  # the same


@pytest.mark.parametrize(
    ("run", "action"),
    [
        (standing(), Launch()),
        (standing(is_sealed=False, num_units=0, num_ended=0), Wait()),
        (standing(num_ended=3, num_open=1), Wait()),
        (standing(num_open=2), Launch()),
        (standing(num_ended=3, spent="limits.money: 2 of 1 spent"), Pause("limits.money: 2 of 1 spent")),
        (standing(job=job(JobState.RUNNING)), Launch()),
        (standing(job=job(JobState.DONE)), Finish()),
        (standing(job=job(JobState.DONE), spent="limits.hours"), Finish()),
        (standing(job=job(JobState.CANCELLED, reason="by hand")), Fail("by hand")),
        (standing(job=job(JobState.FAILED)), Wait()),
        (standing(job=job(JobState.FAILED), now_s=1000.0 + BACKOFF_S), Launch()),
        (standing(job=job(JobState.FAILED, attempt=2), now_s=1000.0 + BACKOFF_S), Wait()),
        (standing(job=job(JobState.FAILED, attempt=MAX_ATTEMPTS, reason="crashed"), now_s=1e9), Fail("crashed")),
        (standing(state=RunState.CANCELLED, num_open=1), CloseUnits()),
        (standing(state=RunState.CANCELLED), Rest()),
    ],
)
def test_the_one_next_thing_is_done(run: Standing, action: Action) -> None:
    assert reconcile(run) == action


@pytest.mark.parametrize("state", sorted(set(RunState) - {RunState.RUNNING, RunState.CANCELLED}))
def test_a_run_that_is_not_worked_on_rests(state: RunState) -> None:
    assert reconcile(standing(state=state, num_ended=0, num_open=4)) == Rest()
