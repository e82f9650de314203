"""What the operator sees of a TrainingRun or an EvaluationRun, and what it says of it.

`shell` reads these from the Kubernetes API and writes them there; `reconcile` decides on them and knows no API. Times
are seconds since 1970, and given in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

GIVEN_BACK = 75
"""Exit code of a job that was told to stop and goes on when it is started again (EX_TEMPFAIL of sysexits.h)."""
FINAL_CODES: Mapping[int, str] = {2: "NeedsSetup", 3: "Fenced", 4: "BudgetSpent"}
"""Exit codes that another attempt would only repeat, and the reason that each stands for."""


class Phase(StrEnum):
    """How a run is, in one word for people; the conditions say it for programs."""

    PENDING = "Pending"
    QUEUED = "Queued"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    RESTARTING = "Restarting"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def is_final(self) -> bool:
        """Whether it never changes again."""
        return self in (Phase.SUCCEEDED, Phase.FAILED)


class AttemptState(StrEnum):
    """How the Job of an attempt is."""

    QUEUED = "queued"
    """It is suspended: a queue has not admitted it."""
    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The Job of one attempt, as it was last seen."""

    number: int
    state: AttemptState
    num_pods: int = 0
    """Pods that have not ended."""
    exit_code: int | None = None
    """Of the first container that failed; None where it does not say."""
    was_disrupted: bool = False
    """A pod was evicted, preempted or drained away."""
    is_going: bool = False
    """It is being deleted."""
    message: str = ""
    """What the job said when it ended."""
    ended_s: float | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in (AttemptState.SUCCEEDED, AttemptState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What of a resource's specification decides the course of its attempts."""

    suspend: bool = False
    max_failures: int = 6
    deadline_s: float | None = None
    """For all attempts together, from the first one on."""
    ttl_s: float | None = None
    """A run that has ended is deleted after so long; None keeps it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One aspect of a run. `status` is "True" or "False", `since_s` when it last flipped."""

    type: str
    status: str
    reason: str
    since_s: float
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The status subresource."""

    generation: int = 0
    phase: Phase = Phase.PENDING
    attempt: int = 0
    """The newest attempt that was meant to start; 0 before the first."""
    num_starts: int = 0
    """How often an attempt was to be created. Every decision to start one changes it, and so conflicts with any that
    rests on an older look."""
    was_seen: bool = False
    """Whether its Job has been seen: one that is missing after that was taken away."""
    counted: int = 0
    """The newest attempt whose end has been counted."""
    num_failures: int = 0
    num_disruptions: int = 0
    cleanup_failures: int = 0
    started_s: float | None = None
    ended_s: float | None = None
    """When the newest attempt ended, or the run where it is final."""
    message: str = ""
    progress: Mapping[str, str] = field(default_factory=dict)
    """What the job tells of itself (step, num_steps, loss), as text."""
    conditions: Sequence[Condition] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that a decision rests on."""

    wanted: Wanted
    generation: int
    status: Status
    """As it was last written."""
    attempts: Sequence[Attempt] = ()
    """Every Job of the run that exists."""
    progress: Mapping[str, str] = field(default_factory=dict)
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Create the Job of this attempt; that it exists already is no error."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Delete the Job of this attempt and its pods, with their grace; that it is gone already is no error."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the resource itself."""


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Undo what lies outside the cluster (the job table), then release; a failure is counted in the status."""


@dataclass(frozen=True, slots=True)
class Release:
    """Take our finalizer away."""


Action = Start | Stop | Delete | CleanUp | Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now, and what to say. The status is written first, on the condition that nobody has written since the
    look: a decision that rests on an old look comes to nothing, and what was announced and not done is done later."""

    status: Status
    actions: Sequence[Action] = ()
    look_again_s: float | None = None
    """After so many seconds at the latest, where time alone will change the decision."""
