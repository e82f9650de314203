"""The operator's decisions, against random histories of a cluster in which anything may happen between two of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemend.trainer.operator.reconcile import BACKOFF_S, MAX_CLEANUPS, reconcile
from tracemend.trainer.operator.standing import (
    GIVEN_BACK,
    Attempt,
    AttemptState,
    CleanUp,
    Decision,
    Delete,
    Observed,
    Phase,
    Release,
    Start,
    Status,
    Stop,
    Wanted,
)


@dataclass
class Cluster:
    """One run and its Jobs, as the API server would keep them."""

    wanted: Wanted = field(default_factory=Wanted)
    status: Status = field(default_factory=Status)
    version: int = 0
    jobs: dict[int, Attempt] = field(default_factory=dict)
    now_s: float = 1000.0
    is_deleted: bool = False
    is_gone: bool = False
    is_away: bool = False
    """What lies outside the cluster cannot be reached."""
    num_ends: int = 0
    """Of Jobs, however they ended."""

    def look(self) -> tuple[int, Observed]:
        attempts = sorted(self.jobs.values(), key=lambda each: each.number)
        return self.version, Observed(
            wanted=self.wanted, generation=1, status=self.status, attempts=attempts, is_deleted=self.is_deleted
        )

    def do(self, version: int, decision: Decision, *, crash_after: int = 99) -> None:
        """Write the status unless somebody has written since, then act; a crash leaves the rest out."""
        if decision.status != self.status:
            if version != self.version:
                return
            self.write(decision.status)
        for action in decision.actions[:crash_after]:
            self.act(action)

    def write(self, status: Status) -> None:
        assert status.attempt >= self.status.attempt, "attempts only count upwards"
        if self.status.phase.is_final:
            assert status.phase is self.status.phase, "a final phase stays"
        self.status = status
        self.version += 1

    def act(self, action: object) -> None:
        match action:
            case Start(number):
                self.jobs.setdefault(number, Attempt(number=number, state=AttemptState.ACTIVE, num_pods=1))
            case Stop(number):
                if number in self.jobs:
                    self.jobs[number] = replace(self.jobs[number], is_going=True)
            case Delete():
                self.is_deleted = True
            case CleanUp() if self.is_away:
                self.write(replace(self.status, cleanup_failures=self.status.cleanup_failures + 1))
            case CleanUp() | Release():
                self.is_gone = True

    def turn(self) -> Decision:
        """One look and what follows from it, undisturbed."""
        version, seen = self.look()
        decision = reconcile(seen, now_s=self.now_s)
        self.do(version, decision)
        return decision

    def happen(self, event: str, number: int) -> None:
        """Something that the cluster does by itself."""
        job = self.jobs.get(number)
        if job is None:
            return
        if event == "going" and job.is_going and job.num_pods:
            self.jobs[number] = replace(job, num_pods=0)
        elif event == "taken" or (event == "going" and job.is_going):  # with its pods, where somebody forces it
            self.num_ends += not job.has_ended
            del self.jobs[number]
        elif event == "pod" and job.has_ended:
            self.jobs[number] = replace(job, num_pods=0)
        elif event in _ENDS and not job.has_ended and job.num_pods:
            self.num_ends += 1
            self.jobs[number] = replace(job, ended_s=self.now_s, **_ENDS[event])

    def settle(self, *, ends: str = "succeed") -> None:
        """Faults have stopped: whatever works ends in time."""
        for _ in range(200):
            self.turn()
            if self.is_gone:
                return
            for number in list(self.jobs):
                for event in ("going", "pod", ends, "pod"):
                    self.happen(event, number)
            self.now_s += BACKOFF_S


_ENDS = {
    "succeed": {"state": AttemptState.SUCCEEDED, "num_pods": 0},
    "fail": {"state": AttemptState.FAILED, "exit_code": 1},
    "fail_slowly": {"state": AttemptState.FAILED, "exit_code": 137, "num_pods": 1},
    "give_back": {"state": AttemptState.FAILED, "exit_code": GIVEN_BACK, "num_pods": 0},
    "disrupt": {"state": AttemptState.FAILED, "was_disrupted": True, "num_pods": 0},
}
_EVENTS = st.sampled_from([*_ENDS, "going", "pod", "taken", *["decide"] * 6, "crash", "time", "suspend", "resume"])


@given(st.lists(st.tuples(_EVENTS, st.integers(0, 3)), max_size=80))
@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_never_two_attempts_at_work_and_every_run_ends(history: list[tuple[str, int]]) -> None:
    """Looks are stale, writes conflict, crashes come between any two actions, Jobs end or vanish at any time."""
    cluster = Cluster(wanted=Wanted(max_failures=50))
    looks = [cluster.look()]
    for event, number in history:
        match event:
            case "decide" | "crash":
                looks.append(cluster.look())
                stale = max(0, number - 1) if event == "decide" else 0
                version, seen = looks[-1 - min(stale, len(looks) - 1)]
                crash_after = number if event == "crash" else 99
                cluster.do(version, reconcile(seen, now_s=cluster.now_s), crash_after=crash_after)
            case "time":
                cluster.now_s += 7.0 * number
            case "suspend" | "resume":
                cluster.wanted = replace(cluster.wanted, suspend=event == "suspend")
            case _:
                cluster.happen(event, max(cluster.jobs, default=1) - (number == 3))
        assert sum(job.num_pods for job in cluster.jobs.values()) <= 1, "two attempts at work"
        assert cluster.status.num_failures + cluster.status.num_disruptions <= cluster.num_ends, "an end counted twice"
    cluster.wanted = replace(cluster.wanted, suspend=False)
    cluster.settle()
    assert cluster.status.phase is Phase.SUCCEEDED
    assert cluster.turn().status == cluster.status, "a status that says nothing new is not written again"


def test_the_first_attempt_starts_at_once_and_its_success_is_the_run_s() -> None:
    cluster = Cluster()
    assert cluster.turn().actions == (Start(1),)
    assert cluster.status.phase is Phase.PENDING
    cluster.turn()
    assert cluster.status.phase is Phase.RUNNING
    cluster.happen("succeed", 1)
    cluster.turn()
    assert cluster.status.phase is Phase.SUCCEEDED
    assert {each.type: each.status for each in cluster.status.conditions} == {
        "Accepted": "False",
        "Running": "False",
        "Succeeded": "True",
    }


def test_failures_wait_longer_each_time_and_are_counted() -> None:
    cluster = Cluster(wanted=Wanted(max_failures=3))
    waits = []
    for number in (1, 2, 3):
        cluster.now_s += 10_000.0
        cluster.turn()
        cluster.turn()
        assert cluster.status.attempt == number
        cluster.happen("fail", number)
        cluster.happen("pod", number)
        waits.append(cluster.turn().look_again_s)
    assert waits == [BACKOFF_S, 2 * BACKOFF_S, None]
    assert cluster.status.phase is Phase.FAILED
    assert [each.reason for each in cluster.status.conditions if each.type == "Failed"] == ["TooManyFailures"]


@pytest.mark.parametrize("event", ["give_back", "disrupt"])
def test_who_was_disrupted_goes_on_at_once_and_has_not_failed(event: str) -> None:
    cluster = Cluster(wanted=Wanted(max_failures=1))
    for number in (1, 2, 3):
        cluster.turn()
        cluster.turn()
        cluster.happen(event, number)
        assert Start(number + 1) in cluster.turn().actions
    assert (cluster.status.num_failures, cluster.status.num_disruptions) == (0, 3)


@pytest.mark.parametrize(("code", "reason"), [(2, "NeedsSetup"), (3, "Fenced"), (4, "BudgetSpent")])
def test_what_another_attempt_would_only_repeat_fails_the_run_with_the_job_s_words(code: int, reason: str) -> None:
    cluster = Cluster()
    cluster.turn()
    cluster.jobs[1] = Attempt(number=1, state=AttemptState.FAILED, exit_code=code, message="x" * 5000)
    cluster.turn()
    assert cluster.status.phase is Phase.FAILED
    (failed,) = [each for each in cluster.status.conditions if each.type == "Failed"]
    assert (failed.reason, failed.message) == (reason, "x" * 1000)


def test_the_next_attempt_waits_for_the_last_pod() -> None:
    cluster = Cluster()
    cluster.turn()
    cluster.turn()
    cluster.happen("fail_slowly", 1)
    cluster.turn()
    cluster.now_s += 100.0
    assert cluster.turn().actions == ()
    cluster.happen("pod", 1)
    assert cluster.turn().actions == (Start(2),)


def test_a_job_that_somebody_deleted_is_a_disruption_and_the_next_attempt_starts() -> None:
    cluster = Cluster(wanted=Wanted(max_failures=1))
    cluster.turn()
    cluster.turn()
    cluster.happen("taken", 1)
    assert cluster.turn().actions == (Start(2),)
    assert (cluster.status.num_failures, cluster.status.num_disruptions) == (0, 1)


def test_suspending_stops_the_attempt_and_resuming_starts_the_next() -> None:
    cluster = Cluster()
    cluster.turn()
    cluster.turn()
    cluster.wanted = replace(cluster.wanted, suspend=True)
    assert cluster.turn().actions == (Stop(1),)
    assert cluster.status.phase is Phase.SUSPENDED
    cluster.wanted = replace(cluster.wanted, suspend=False)
    cluster.settle()
    assert cluster.status.phase is Phase.SUCCEEDED
    assert (cluster.status.attempt, cluster.status.num_failures) == (2, 0)


def test_a_suspended_run_starts_nothing() -> None:
    cluster = Cluster(wanted=Wanted(suspend=True))
    assert cluster.turn().actions == ()
    assert cluster.status.phase is Phase.SUSPENDED


def test_a_queue_that_admits_nothing_is_told_as_such() -> None:
    cluster = Cluster()
    cluster.turn()
    cluster.jobs[1] = replace(cluster.jobs[1], state=AttemptState.QUEUED, num_pods=0)
    cluster.turn()
    assert cluster.status.phase is Phase.QUEUED


def test_a_run_beyond_its_deadline_fails_and_stops() -> None:
    cluster = Cluster(wanted=Wanted(deadline_s=60.0))
    cluster.turn()
    cluster.turn()
    cluster.now_s += 60.0
    assert cluster.turn().actions == (Stop(1),)
    assert [each.reason for each in cluster.status.conditions if each.status == "True"] == ["DeadlineExceeded"]


def test_an_ended_run_goes_when_its_time_has_come() -> None:
    cluster = Cluster(wanted=Wanted(ttl_s=100.0))
    cluster.turn()
    cluster.turn()
    cluster.happen("succeed", 1)
    cluster.turn()
    assert cluster.turn().look_again_s == 100.0
    cluster.now_s += 100.0
    assert cluster.turn().actions == (Delete(),)


def test_a_deleted_run_is_released_even_where_nothing_outside_answers() -> None:
    cluster = Cluster(is_away=True)
    cluster.turn()
    cluster.is_deleted = True
    for _ in range(MAX_CLEANUPS):
        assert not cluster.is_gone
        cluster.turn()
    cluster.turn()
    assert cluster.is_gone


def test_a_run_whose_status_was_lost_goes_on_with_the_attempt_that_is_at_work() -> None:
    cluster = Cluster()
    cluster.jobs[1] = Attempt(number=1, state=AttemptState.ACTIVE, num_pods=1)
    assert cluster.turn().actions == ()
    assert (cluster.status.attempt, cluster.status.phase) == (1, Phase.RUNNING)
