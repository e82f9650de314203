"""What to do next for a run: a pure function of how it stands.

Asked by the trainer's program on a timer and on events, for each run that it coordinates. A run's samples, verdicts and
corrections are the work of the other services; once they have all ended, one job does the rest (datasets, trainings,
evaluations, report). Asking again after a crash gives the same answer; attempts of a job are fenced, so that acting
twice does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import JobRecord, JobState

MAX_ATTEMPTS = 3
"""Attempts at a job that crashes, before the run has failed."""
BACKOFF_S = 10.0
"""After the first attempt; twice as long after each further one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a run stands."""

    state: RunState
    is_sealed: bool
    num_units: int
    """Planned, of the arms whose samples are drawn by the services."""
    num_ended: int
    """Those of them that have an outcome."""
    num_open: int
    """Units of any arm without an outcome."""
    spent: str = ""
    """The limit that is reached, in words; empty while there is something left."""
    job: JobRecord | None = None
    now_s: float = 0.0
    """Seconds since 1970, as the job's times."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing now; look again."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing, until the run's record changes."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop the run where it can go on later."""

    reason: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Start an attempt at the run's job."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is done."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The run cannot go on before somebody changes something."""

    reason: str


@dataclass(frozen=True, slots=True)
class CloseUnits:
    """End the open units of a cancelled run."""


Action: TypeAlias = Wait | Rest | Pause | Launch | Finish | Fail | CloseUnits


def reconcile(run: Standing) -> Action:
    """The one next thing to do for `run`."""
    if run.state is RunState.CANCELLED:
        return CloseUnits() if run.num_open else Rest()
    if run.state is not RunState.RUNNING:
        return Rest()
    if run.job is not None and run.job.state is JobState.DONE:
        return Finish()
    if run.spent:
        return Pause(run.spent)
    if not run.is_sealed or run.num_ended < run.num_units:
        return Wait()
    return _on_job(run.job, run.now_s)


def _on_job(job: JobRecord | None, now_s: float) -> Action:
    if job is None or job.state is JobState.RUNNING:  # of a coordinator that is gone: ours is fenced from it
        return Launch()
    if job.state is JobState.CANCELLED:
        return Fail(job.reason or "the run's job was cancelled")
    if job.attempt >= MAX_ATTEMPTS:
        return Fail(job.reason or "the run's job ended without a reason")
    return Launch() if now_s >= job.updated_s + BACKOFF_S * 2 ** (job.attempt - 1) else Wait()
