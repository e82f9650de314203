"""The states of a run on the cluster and the moves between them: a pure table that the ledger's database enforces.

Read by the adapters of `server_ports.Runs`, by servicers that explain a refused move, and by whoever asks whether a run
is worked on. A run that was cancelled stays so; one that failed or is done may be taken up again, because what stopped
it can be mended and rows can be redriven.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands."""

    RECEIVING = "receiving"
    """Rows are uploaded."""
    SEALED = "sealed"
    """All rows are there; one worker filters and admits them."""
    RUNNING = "running"
    """Prompts are admitted and worked on."""
    PAUSED = "paused"
    """Its records are put aside; running again goes on where it stood."""
    CANCELLED = "cancelled"
    """Given up for good; its open units end as cancelled."""
    FAILED = "failed"
    """Something must be mended first; `RunRecord.reason` says what."""
    DONE = "done"
    """Every phase has ended."""

    @property
    def is_final(self) -> bool:
        """Whether nothing moves by itself any more."""
        return self in _ENDED

    @property
    def is_worked_on(self) -> bool:
        """Whether stages work on the run's records; those of other runs are acknowledged unworked."""
        return self is RunState.RUNNING


_ENDED = frozenset({RunState.CANCELLED, RunState.FAILED, RunState.DONE})

TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.RECEIVING: frozenset({RunState.SEALED, RunState.CANCELLED, RunState.FAILED}),
    RunState.SEALED: frozenset({RunState.RUNNING, RunState.CANCELLED, RunState.FAILED}),
    RunState.RUNNING: frozenset({RunState.PAUSED, RunState.CANCELLED, RunState.FAILED, RunState.DONE}),
    RunState.PAUSED: frozenset({RunState.RUNNING, RunState.CANCELLED, RunState.FAILED}),
    RunState.CANCELLED: frozenset(),
    RunState.FAILED: frozenset({RunState.RUNNING, RunState.PAUSED, RunState.CANCELLED}),
    RunState.DONE: frozenset({RunState.RUNNING, RunState.PAUSED}),
}
"""From a state to those that may follow it. Staying where one is always may be asked for and changes nothing."""


def may_follow(before: str, after: RunState) -> bool:
    """Whether a run may go from `before`, a state's name, to `after`; from a name that is no state, nowhere."""
    try:
        return before == after or after in TRANSITIONS[RunState(before)]
    except ValueError:
        return False
