"""What the operator does next for a run: a pure function of what it sees, and of the clock.

Asked after every event, and every few seconds without one: events may be lost, repeated and out of order, and a crash
may come between any two actions, so nothing is remembered outside of what is seen. Its promises, which the tests hold
against random histories: never two attempts at work at once; a run that has ended stays as it ended; attempts only
count upwards; once faults stop, the run ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracemend.trainer.operator.standing import (
    FINAL_CODES,
    GIVEN_BACK,
    Action,
    Attempt,
    AttemptState,
    CleanUp,
    Condition,
    Decision,
    Delete,
    Observed,
    Phase,
    Release,
    Start,
    Status,
    Stop,
)

BACKOFF_S = 10.0
"""After the first failure; twice as long after each further one, up to `LONGEST_BACKOFF_S`."""
LONGEST_BACKOFF_S = 300.0
MAX_CLEANUPS = 5
_MESSAGE_CHARS = 1000
_FLAGS = {
    Phase.PENDING: ("Accepted", "Waiting"),
    Phase.QUEUED: ("Queued", "WaitingForQuota"),
    Phase.RUNNING: ("Running", "AttemptRuns"),
    Phase.SUSPENDED: ("Suspended", "SuspendIsSet"),
    Phase.RESTARTING: ("Restarting", "AttemptEnded"),
    Phase.SUCCEEDED: ("Succeeded", "JobDone"),
    Phase.FAILED: ("Failed", "JobFailed"),
}
"""The condition that is true in a phase, and its reason where there is no better one."""


def reconcile(seen: Observed, *, now_s: float) -> Decision:
    """Decide for one run at `now_s`."""
    status = replace(seen.status, generation=seen.generation, progress=dict(seen.progress or seen.status.progress))
    if seen.is_deleted:
        return _let_go(seen, status)
    if status.phase.is_final:
        return _rest(seen, status, now_s)
    status = _counted(seen, status, now_s)
    if status.phase.is_final:  # by what has just been counted
        return _say(status, _stops(seen.attempts), now_s)
    if _is_over_deadline(seen, status, now_s):
        return _fail(seen, status, "DeadlineExceeded", f"not done within {seen.wanted.deadline_s:.0f} s", now_s)
    if seen.wanted.suspend:
        return _suspend(seen, status, now_s)
    return _go_on(seen, status, now_s)


# ------------------------------------------------------------------------------------------- endings


def _let_go(seen: Observed, status: Status) -> Decision:
    """Children go with their owner; what lies outside is undone first, as long as that can be done at all."""
    given_up = status.cleanup_failures >= MAX_CLEANUPS
    actions = (*_stops(seen.attempts), Release() if given_up else CleanUp())
    return Decision(status=status, actions=actions, look_again_s=None if given_up else BACKOFF_S)


def _rest(seen: Observed, status: Status, now_s: float) -> Decision:
    """A final state stays; what still works is stopped, and the resource goes when its time has come."""
    if seen.wanted.ttl_s is None or status.ended_s is None:
        return Decision(status=status, actions=_stops(seen.attempts))
    left_s = status.ended_s + seen.wanted.ttl_s - now_s
    if left_s <= 0:
        return Decision(status=status, actions=(*_stops(seen.attempts), Delete()))
    return Decision(status=status, actions=_stops(seen.attempts), look_again_s=left_s)


def _fail(seen: Observed, status: Status, reason: str, message: str, now_s: float) -> Decision:
    status = replace(status, phase=Phase.FAILED, ended_s=now_s, message=message[:_MESSAGE_CHARS])
    return _say(status, _stops(seen.attempts), now_s, reason=reason)


def _stops(attempts: Sequence[Attempt]) -> tuple[Action, ...]:
    """Stop whatever has not ended and is not going already."""
    return tuple(Stop(each.number) for each in attempts if not each.has_ended and not each.is_going)


# ------------------------------------------------------------------------------------ ends of attempts


def _counted(seen: Observed, status: Status, now_s: float) -> Status:
    """With the newest attempt taken from what exists, and its end counted, once."""
    newest = max(seen.attempts, key=lambda each: each.number, default=None)
    if newest is not None and newest.number > status.attempt:  # the status was lost, and the Job was not
        status = replace(status, attempt=newest.number, was_seen=False)
    if newest is None or newest.number < status.attempt:
        return _missed(status, now_s)
    status = replace(status, was_seen=True, started_s=status.started_s or now_s)
    if not newest.has_ended or status.counted >= newest.number:
        return status
    return _ended(seen, status, newest, now_s)


def _missed(status: Status, now_s: float) -> Status:
    """Its Job does not exist: not yet, or somebody deleted it, which ends the attempt as a disruption does."""
    if not status.was_seen or status.counted >= status.attempt:
        return status
    message = f"the job of attempt {status.attempt} was deleted"
    disruptions = status.num_disruptions + 1
    return replace(status, counted=status.attempt, num_disruptions=disruptions, ended_s=now_s, message=message)


def _ended(seen: Observed, status: Status, attempt: Attempt, now_s: float) -> Status:
    ended_s = attempt.ended_s if attempt.ended_s is not None else now_s
    status = replace(status, counted=attempt.number, ended_s=ended_s, message=attempt.message[:_MESSAGE_CHARS])
    if attempt.state is AttemptState.SUCCEEDED:
        return replace(status, phase=Phase.SUCCEEDED)
    if attempt.was_disrupted or attempt.exit_code == GIVEN_BACK:
        return replace(status, num_disruptions=status.num_disruptions + 1)
    status = replace(status, num_failures=status.num_failures + 1)
    reason = FINAL_CODES.get(attempt.exit_code) if attempt.exit_code is not None else None
    if reason is None and status.num_failures >= seen.wanted.max_failures:
        reason = "TooManyFailures"
    if reason is None:
        return status
    failed = replace(status, phase=Phase.FAILED)
    return replace(failed, conditions=_conditions(failed, now_s, reason=reason))


# ---------------------------------------------------------------------------------------- the course


def _suspend(seen: Observed, status: Status, now_s: float) -> Decision:
    """Stop what works: it keeps a checkpoint, and the attempt does not count as a failure."""
    return _say(replace(status, phase=Phase.SUSPENDED), _stops(seen.attempts), now_s)


def _go_on(seen: Observed, status: Status, now_s: float) -> Decision:
    older = _stops([each for each in seen.attempts if each.number < status.attempt])
    current = next((each for each in seen.attempts if each.number == status.attempt), None)
    if current is not None and not current.has_ended and not current.is_going:
        phase = Phase.QUEUED if current.state is AttemptState.QUEUED else Phase.RUNNING
        return _say(replace(status, phase=phase), older, now_s)
    if status.attempt and not status.was_seen:  # announced, and not created yet
        return _start(seen, status, status.attempt, now_s)
    if status.attempt == 0:
        return _start(seen, status, 1, now_s)
    wait_s = (status.ended_s or now_s) + _backoff_s(status) - now_s
    if wait_s > 0:
        return _say(replace(status, phase=Phase.RESTARTING), older, now_s, look_again_s=wait_s)
    return _start(seen, status, status.attempt + 1, now_s)


def _start(seen: Observed, status: Status, number: int, now_s: float) -> Decision:
    """Announce and start an attempt, once nothing of an earlier one is left at work."""
    if any(each.num_pods or not each.has_ended for each in seen.attempts if each.number < number):
        waiting = replace(status, phase=Phase.RESTARTING)
        return _say(waiting, _stops(seen.attempts), now_s, look_again_s=BACKOFF_S)
    if number != status.attempt:
        status = replace(status, attempt=number, was_seen=False)
    phase = Phase.PENDING if number == 1 else Phase.RESTARTING
    return _say(replace(status, phase=phase, num_starts=status.num_starts + 1), (Start(number),), now_s)


def _backoff_s(status: Status) -> float:
    """After a failure only: who was disrupted goes on at once."""
    if status.num_failures == 0:
        return 0.0
    return min(LONGEST_BACKOFF_S, BACKOFF_S * 2.0 ** (status.num_failures - 1))


def _is_over_deadline(seen: Observed, status: Status, now_s: float) -> bool:
    limit_s = seen.wanted.deadline_s
    return limit_s is not None and status.started_s is not None and now_s >= status.started_s + limit_s


# ------------------------------------------------------------------------------------------- saying it


def _say(
    status: Status, actions: Sequence[Action], now_s: float, *, reason: str = "", look_again_s: float | None = None
) -> Decision:
    if not (status.phase is Phase.FAILED and not reason):  # its reason was told where it was found
        status = replace(status, conditions=_conditions(status, now_s, reason=reason))
    return Decision(status=status, actions=tuple(actions), look_again_s=look_again_s)


def _conditions(status: Status, now_s: float, *, reason: str = "") -> tuple[Condition, ...]:
    """The phase's condition true, every other one that was ever told false; times move when a status flips."""
    true, usual = _FLAGS[status.phase]
    known = {each.type: each for each in status.conditions}
    told = []
    for kind in dict.fromkeys([*known, true]):
        flag, before = "True" if kind == true else "False", known.get(kind)
        was_told = before is not None and (kind != true or before.status == "True")
        why = reason if reason and kind == true else before.reason if before is not None and was_told else usual
        since_s = before.since_s if before is not None and before.status == flag else now_s
        message = status.message if kind == true else ""
        told.append(Condition(type=kind, status=flag, reason=why, since_s=since_s, message=message))
    return tuple(told)
