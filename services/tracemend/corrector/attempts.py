"""What becomes of a text that the teacher wrote: accepted, written again, rejected or given up.

The one ladder that every strategy with a teacher uses, so that no strategy can accept what another would refuse.
Invariant: accepted means judged safe in every part that the arm verifies, finished, and with both parts present.
"""

from __future__ import annotations

from tracemend.corrector.actions import Action, AskTeacher, Conclude
from tracemend.corrector.selection import holds_both_parts
from tracemend.corrector.strategy import Strategy, Terms
from tracemend.records import Finish, OutcomeState, Part, Trajectory, Unit, Value, Verdict

REFUSED = "teacher_refused"
WITHHELD = "provider_filter"


def first_attempt(strategy: Strategy, unit: Unit, verdict: Verdict) -> AskTeacher:
    """Ask for the first text that replaces the trajectory of `verdict`."""
    attempt = strategy.terms.first_attempt
    return AskTeacher(unit=unit, verdict=verdict, strategy=strategy.terms.strategy, attempt=attempt)


def fault(verdict: Verdict, parts: tuple[Part, ...]) -> str:
    """Why the judged text cannot be accepted, as a reason code; empty where it can."""
    trajectory = verdict.trajectory
    if trajectory.intervention is not None and trajectory.intervention.failure:
        return trajectory.intervention.failure
    if trajectory.finish is Finish.FILTERED:
        return WITHHELD
    if not trajectory.is_finished:
        return "unfinished"
    if not holds_both_parts(trajectory):
        return "missing_part"
    value = verdict.value(parts)
    if value is Value.SAFE:
        return ""
    return "still_unsafe" if value is Value.UNSAFE else "unknown_verdict"


def settle(strategy: Strategy, verdict: Verdict, unit: Unit, original: Verdict, *, fault: str) -> Action:
    """Accept a text without a fault; else end or ask again, as the fault and the attempts left allow."""
    if not fault:
        return Conclude(unit=unit, state=OutcomeState.CORRECTED, final=verdict, original=original)
    attempt = _attempt_of(verdict.trajectory)
    state = _final_state(verdict.trajectory, fault, attempt=attempt, terms=strategy.terms)
    if state is not None:
        return Conclude(unit=unit, state=state, reason=fault, original=original)
    return AskTeacher(
        unit=unit, verdict=original, strategy=strategy.terms.strategy, attempt=attempt + 1, feedback=fault
    )


def _attempt_of(trajectory: Trajectory) -> int:
    """The attempt that a teacher's trajectory is."""
    assert trajectory.intervention is not None, "only texts that the teacher wrote are settled"
    return trajectory.intervention.attempt


def _final_state(trajectory: Trajectory, fault: str, *, attempt: int, terms: Terms) -> OutcomeState | None:
    if trajectory.finish is Finish.DEAD:
        return OutcomeState.DEAD
    # Teacher and fallback have both had their turn by now: another seed is unlikely to change a policy.
    if fault in (REFUSED, WITHHELD):
        return OutcomeState.REJECTED
    return None if attempt < terms.last_attempt else OutcomeState.GAVE_UP
