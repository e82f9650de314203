"""Runs as messages, and what watchers see of them change."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb
from tracemend.api.records.v1 import records_pb2
from tracemend.ingestion.needs import Books, Counts
from tracemend.ingestion.uploads import RUN
from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import RunRecord, Runs
from tracemend.runtime.rpc.faults import not_found
from tracemend.runtime.rpc.names import format_name

POLL_S = 1.0
"""How old what watchers are shown may be."""
HEARTBEAT_S = 10.0
"""At least so often a watcher hears something."""
_KEPT_LOOKS = 1024


def run_message(record: RunRecord, counts: Counts | None = None) -> Any:
    """The `Run` message; without `counts`, as in lists."""
    return pb.Run(
        name=format_name(RUN, record.run),
        display_name=record.name,
        state=pb.Run.State.Value(f"STATE_{record.state.name}"),
        etag=record.etag,
        plan=record.plan,
        target=record.target,
        create_time=timestamp(record.created_s),
        update_time=timestamp(record.updated_s),
        submitter=record.submitted_by,
        counts=_counts_message(record, counts) if counts is not None else None,
        reason=record.reason,
    )


def state_of(number: int) -> RunState:
    """The state that a number of `Run.State` stands for; `KeyError` for STATE_UNSPECIFIED and unknown ones."""
    return {pb.Run.State.Value(f"STATE_{state.name}"): state for state in RunState}[number]


def timestamp(seconds: float) -> Any:
    """A protobuf `Timestamp`, to the microsecond; None for 0, which stands for no time."""
    if not seconds:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(int(seconds * 1e6))
    return stamp


def _counts_message(record: RunRecord, counts: Counts) -> Any:
    return pb.RunCounts(
        num_received=record.num_rows,
        num_admitted=record.num_admitted or 0,
        num_refused=record.num_refused or 0,
        num_units=counts.num_units,
        num_ended=sum(counts.outcomes.values()),
        outcomes=[
            pb.OutcomeCount(
                arm=arm, state=getattr(records_pb2, f"OUTCOME_STATE_{state.upper()}"), reason=reason, number=number
            )
            for (arm, state, reason), number in sorted(counts.outcomes.items())
        ],
        costs=[
            pb.StageCost(
                stage=cost.stage,
                num_items=cost.num_items,
                num_prompt_tokens=cost.num_prompt_tokens,
                num_cached_tokens=cost.num_cached_tokens,
                num_new_tokens=cost.num_new_tokens,
                seconds=cost.seconds,
                money=cost.money,
            )
            for cost in counts.costs
        ],
    )


class Watching:
    """Runs with their counts as of a second ago at most, however many watch them: one look serves all."""

    def __init__(self, *, runs: Runs, books: Books, clock: Callable[[], float] = time.monotonic) -> None:
        self._runs = runs
        self._books = books
        self._clock = clock
        self._looks: dict[str, tuple[float, asyncio.Task[Any]]] = {}

    async def look(self, run: str) -> Any:
        """The `Run` message as it is now; NOT_FOUND if there is none."""
        record = await self._runs.get(run)
        if record is None:
            raise not_found(format_name(RUN, run))
        return run_message(record, await self._books.counts(run))

    def changed(self, run: str) -> None:
        """Whoever looks next must see what has just been done."""
        self._looks.pop(run, None)

    async def watch(self, run: str, *, cursor: str) -> AsyncIterator[Any]:
        """`WatchRunResponse` messages: at once unless `cursor` names what there is to see, then at every change and
        every `HEARTBEAT_S`. Ends once the run is final."""
        told_s = self._clock() - (0 if cursor else HEARTBEAT_S)
        while True:
            message = await self._recent(run)
            seen = hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()[:16]
            is_final = state_of(message.state).is_final
            if seen != cursor or is_final or self._clock() - told_s >= HEARTBEAT_S:
                yield pb.WatchRunResponse(run=message, cursor=seen)
                cursor, told_s = seen, self._clock()
            if is_final:
                return
            await asyncio.sleep(POLL_S)

    async def _recent(self, run: str) -> Any:
        """What the last look of anybody saw; a new look where that is older than `POLL_S`."""
        now_s = self._clock()
        looked_s, task = self._looks.get(run, (0.0, None))
        if task is None or now_s - looked_s >= POLL_S or (task.done() and (task.cancelled() or task.exception())):
            task = asyncio.create_task(self.look(run))
            task.add_done_callback(_look_is_over)
            self._looks.pop(run, None)
            self._looks[run] = (now_s, task)
            while len(self._looks) > _KEPT_LOOKS:
                self._looks.pop(next(iter(self._looks)))
        return await asyncio.shield(task)


def _look_is_over(task: asyncio.Task[Any]) -> None:
    """Its error is for those who still watch; nobody may."""
    if not task.cancelled():
        task.exception()
