"""Which runs are worked on: what stages ask before they work a record, and who ends that work when a run stops.

A run's state is at most `max_age_s` old here. Work that was begun for a run which is paused, cancelled or failed
meanwhile is cancelled and comes out as `PutAside`, so that engines drop their requests.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from tracemend.kit.errors import PutAside, Retry
from tracemend.kit.ports import Ledger
from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import Conflict, Runs

T = TypeVar("T")

_FORGET_AFTER_S = 60.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Seen:
    state: str | None
    at_s: float
    asked_s: float


class RunWatch:
    """The states of the runs whose records come by. One per program."""

    def __init__(
        self, ledger: Ledger, runs: Runs, *, max_age_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = ledger
        self._runs = runs
        self._max_age_s = max_age_s
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._working: defaultdict[str, set[asyncio.Future[Any]]] = defaultdict(set)

    async def look(self, runs: Collection[str]) -> None:
        """See to it that the states of `runs` are fresh; `Retry` where the ledger is away and one was never seen."""
        now_s = self._clock()
        for run in set(runs):
            seen = self._seen.get(run)
            if seen is not None:
                seen.asked_s = now_s
            if seen is None or now_s - seen.at_s >= self._max_age_s:
                await self._refresh(run)

    def is_worked_on(self, run: str) -> bool:
        """Whether `run` was being worked on when it was last looked at."""
        seen = self._seen.get(run)
        return seen is not None and seen.state == RunState.RUNNING

    async def fail(self, run: str, reason: str) -> None:
        """Nothing can be done for `run` before its owner changes something: `reason` says what."""
        log.error("run failed", run=run, reason=reason)
        with suppress(Conflict, KeyError):  # it was stopped otherwise meanwhile
            await self._runs.set_state(run, RunState.FAILED, reason=reason)
        await self._refresh(run)

    async def while_worked_on(self, run: str, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives; `PutAside` once the run is not worked on any more, and then `work` is cancelled."""
        task = asyncio.ensure_future(work)
        self._working[run].add(task)
        try:
            return await task
        except asyncio.CancelledError:
            ours = asyncio.current_task()
            if ours is not None and ours.cancelling():
                raise
            raise PutAside(f"run {run} was stopped") from None
        finally:
            self._working[run].discard(task)
            if not self._working[run]:
                del self._working[run]

    async def watch(self) -> None:
        """Look after the runs that were asked for lately, for ever."""
        while True:
            await asyncio.sleep(self._max_age_s / 2)
            now_s = self._clock()
            for run, seen in list(self._seen.items()):
                if now_s - seen.asked_s > _FORGET_AFTER_S and run not in self._working:
                    del self._seen[run]
                elif now_s - seen.at_s >= self._max_age_s / 2:
                    await self._refresh(run)

    async def _refresh(self, run: str) -> None:
        now_s = self._clock()
        known = self._seen.get(run)
        try:
            state = await self._ledger.run_state(run)
        except Retry:
            if known is None:
                raise
            return
        if state is None and known is None:
            log.warning("message of an unknown run", run=run)
        self._seen[run] = _Seen(state, now_s, known.asked_s if known else now_s)
        if not self.is_worked_on(run):
            for task in list(self._working.get(run, ())):
                task.cancel()
