"""Coordinating runs: what `trainer.coordinator` decides is done here, by one process per run (`tending`).

The rest of a run is a job in a process of its own (`jobs`), which ends when this one does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tracemend.embedded.budget import BudgetSpent, overspent
from tracemend.embedded.plan import Plan
from tracemend.embedded.runfile import BASE
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import make_id
from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import Conflict, RunRecord
from tracemend.programs.jobs import JobRunner
from tracemend.programs.parts import Parts
from tracemend.records import Outcome, OutcomeState, Unit
from tracemend.topics import OUTCOMES
from tracemend.trainer.coordinator import (
    Action,
    CloseUnits,
    Fail,
    Finish,
    Launch,
    Pause,
    Rest,
    Standing,
    reconcile,
)

COORDINATED = frozenset({RunState.RUNNING, RunState.CANCELLED})
KIND = "run"
"""Of the job that does the rest of a run."""

_STATE_AFTER = {SetupError.__name__: RunState.FAILED, BudgetSpent.__name__: RunState.PAUSED}
"""The job's error to the state that it puts the run in."""
_CLOSE_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """Coordinates the runs of one cluster. `coordinate` is a `tending.Work`."""

    parts: Parts
    runner: JobRunner
    every_s: float = 1.0
    clock: Callable[[], float] = time.time

    async def coordinate(self, record: RunRecord) -> None:
        """Look after one run until nothing is left to do for it."""
        runs = self.parts.tables.runs
        while now := await runs.get(record.run):
            # A run that was paused may go on under another plan: what was decided by the old one no longer counts.
            action = reconcile(await self._standing(now, await self.parts.plans.get(now.plan)))
            if isinstance(action, Rest):
                return
            with suppress(Conflict):  # it has changed meanwhile
                await self._act(action, now)
            await asyncio.sleep(self.every_s)

    async def _act(self, action: Action, record: RunRecord) -> None:
        match action:
            case CloseUnits():
                await self._close_units(record.run)
            case Pause(reason=reason):
                await self._move(record, RunState.PAUSED, reason=reason)
            case Fail(reason=reason):
                await self._move(record, RunState.FAILED, reason=reason)
            case Finish():
                await self._move(record, RunState.DONE)
            case Launch():
                await self._launch(record)

    async def _move(self, record: RunRecord, state: RunState, *, reason: str = "") -> None:
        """`Conflict` if the run is no longer as `record` says, by which this was decided."""
        await self.parts.tables.runs.set_state(record.run, state, expected_etag=record.etag, reason=reason)

    async def _standing(self, record: RunRecord, plan: Plan) -> Standing:
        ledger, tables, run = self.parts.workspace.ledger, self.parts.tables, record.run
        units = await ledger.unit_counts(run)
        ended = dict.fromkeys(units, 0)
        for (arm, _, _), number in (await ledger.outcome_counts(run)).items():
            ended[arm] = ended.get(arm, 0) + number
        spent = overspent(plan.run.limits, await ledger.costs(run))
        arms = plan.owned_by(BASE)
        return Standing(
            state=record.state,
            is_sealed=await ledger.intake(run) is not None,
            num_units=sum(units.get(arm, 0) for arm in arms),
            num_ended=sum(ended.get(arm, 0) for arm in arms),
            num_open=sum(units.values()) - sum(ended.values()),
            spent=f"limits.{spent.limit}: {spent.amount:,.6g} of {spent.allowed:,} spent" if spent else "",
            job=await tables.jobs.get(await self._job_key(record)),
            now_s=self.clock(),
        )

    async def _job_key(self, record: RunRecord) -> str:
        """The job's key hashes what it works from: the plan, and in which epochs units count."""
        reopened = await self.parts.workspace.ledger.reopened(record.run)
        epochs = sorted([arm, prompt, epoch] for (arm, prompt), epoch in reopened.items())
        return make_id("job", record.run, record.plan, epochs)

    # ---------------------------------------------------------------------------------- cancelling

    async def _close_units(self, run: str) -> None:
        """Enter `cancelled` for units that are open; their late outcomes come second."""
        workspace = self.parts.workspace
        units = await workspace.ledger.open_units(run, limit=_CLOSE_AT_ONCE)
        outcomes = [(_cancelled(unit), epoch) for unit, epoch in units]
        addresses = await workspace.results.write({o.id: ((OUTCOMES, o),) for o, _ in outcomes})
        for epoch in sorted({epoch for _, epoch in outcomes}):
            its = [(o, addresses[o.id]) for o, its_epoch in outcomes if its_epoch == epoch]
            await workspace.ledger.conclude(run, its, epoch=epoch)

    # ----------------------------------------------------------------------------------------- jobs

    async def _launch(self, record: RunRecord) -> None:
        """Run one attempt at the job: what the user must change fails the run, a spent budget pauses it, and a crash is
        tried again."""
        key, jobs = await self._job_key(record), self.parts.tables.jobs
        job = await jobs.get(key)
        if job is None or not await self.runner.is_at_work(job):
            await jobs.start(key, plan=record.plan, kind=KIND, run=record.run, submitted_by=record.submitted_by)
            job = await jobs.get(key)
        assert job is not None, "it was started"
        ended = await self.runner.run(job, watched=True)
        state = _STATE_AFTER.get(ended.how)
        if state is not None:
            await self.parts.tables.runs.set_state(record.run, state, reason=ended.reason)


def _cancelled(unit: Unit) -> Outcome:
    state = OutcomeState.CANCELLED
    return Outcome(id=make_id("outcome", unit, state, "", ""), unit=unit, state=state)
