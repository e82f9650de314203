"""One holder per run: work that exactly one process in the cluster does for each run in certain states.

Sealing, feeding and coordinating are tended so. Whoever gets a run's lease does the work; when the lease is lost or the
run leaves the states, the work is cancelled. Work that ends by itself rests until the run's record changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import structlog

from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import Conflict, RunRecord, ServerTables

Work = Callable[[RunRecord], Coroutine[Any, Any, None]]
Fail = Callable[[str, str], Awaitable[None]]
"""Takes a run and why its owner must change something first."""

_PAGE = 200

log = structlog.get_logger(__name__)


class Tender:
    """Does `work` for every run in `states`, under the lease `<name>/<run>`."""

    def __init__(
        self,
        name: str,
        work: Work,
        *,
        states: frozenset[RunState],
        tables: ServerTables,
        fail: Fail,
        every_s: float = 0.5,
    ) -> None:
        self._name = name
        self._work = work
        self._states = states
        self._tables = tables
        self._fail = fail
        self._every_s = every_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._rested: dict[str, str] = {}
        """Run to the etag that its work ended at."""

    async def run(self) -> None:
        """Tend for ever."""
        try:
            while True:
                try:
                    await self._look()
                except Retry as away:
                    log.warning("tending waits", what=self._name, reason=away.reason)
                    await asyncio.sleep(away.after_s)
                await asyncio.sleep(self._every_s)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _look(self) -> None:
        present: set[str] = set()
        self._tasks = {run: task for run, task in self._tasks.items() if not task.done()}
        async for record in self._records():
            present.add(record.run)
            if record.run not in self._tasks and self._rested.get(record.run) != record.etag:
                task = asyncio.create_task(self._tend(record), name=f"{self._name}/{record.run}")
                self._tasks[record.run] = task
        for run, task in list(self._tasks.items()):
            if run not in present:
                task.cancel()
        self._rested = {run: etag for run, etag in self._rested.items() if run in present}

    async def _records(self) -> AsyncIterator[RunRecord]:
        after = ""
        while page := await self._tables.runs.page(after=after, limit=_PAGE, states=self._states):
            for record in page:
                yield record
            after = page[-1].run

    async def _tend(self, record: RunRecord) -> None:
        try:
            async with self._tables.leases.try_hold(f"{self._name}/{record.run}") as lease:
                if lease is None:
                    return
                fresh = await self._tables.runs.get(record.run)
                if fresh is None or fresh.state not in self._states:
                    return
                await _until(self._work(fresh), lease.lost())
                if not lease.is_lost:
                    self._rested[record.run] = fresh.etag
        except Retry as away:
            log.warning("tending is interrupted", what=self._name, run=record.run, reason=away.reason)
            await asyncio.sleep(away.after_s)
        except Conflict as other:
            log.info("somebody else was first", what=self._name, run=record.run, why=str(other))
        except SetupError as obstacle:
            await self._fail(record.run, str(obstacle))
        except Exception:  # a bug that one run meets must not stop the others
            log.exception("tending failed", what=self._name, run=record.run)
            await asyncio.sleep(10 * self._every_s)


async def _until(work: Coroutine[Any, Any, None], end: Coroutine[Any, Any, None]) -> None:
    """Do `work` until it ends or `end` does."""
    doing, ending = asyncio.ensure_future(work), asyncio.ensure_future(end)
    try:
        await asyncio.wait({doing, ending}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
    finally:
        for task in (doing, ending):
            task.cancel()
        await asyncio.gather(doing, ending, return_exceptions=True)
