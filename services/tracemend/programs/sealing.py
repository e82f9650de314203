"""Sealing: the uploaded rows of a run, filtered as one list in row order, admitted with their units in one transaction.

One process per run does it (`tending`). It does what the embedded intake does over files: the same rows give the same
prompts, refusals and units. A kill on the way repeats it, with the same result.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TypeVar

import structlog

from tracemend.embedded.intake import admit
from tracemend.embedded.measuring import benchmark_prompts
from tracemend.embedded.plan import Plan
from tracemend.ingestion.rows import BadRow, Row
from tracemend.ingestion.service import ingest
from tracemend.ingestion.uploaded import uploaded_rows
from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import RunRecord
from tracemend.programs.parts import Parts
from tracemend.records import Prompt

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealer:
    """Seals the intake of runs. `seal` is a `tending.Work`."""

    parts: Parts

    async def seal(self, record: RunRecord) -> None:
        """Admit the run's prompts unless that is done, and set it running; `SetupError` if none can be admitted."""
        workspace, run = self.parts.workspace, record.run
        if await workspace.ledger.intake(run) is None:
            plan = await self.parts.plans.get(record.plan)
            benchmarks = await asyncio.to_thread(_benchmarks, plan)
            rows = uploaded_rows(self.parts.tables.uploads, workspace.store, run)
            bridge = _in_thread(rows, asyncio.get_running_loop())
            intake = ingest(bridge, settings=plan.run.ingestion, benchmarks=benchmarks)
            counts = await admit(workspace, run=run, plan=plan, intake=intake)
            log.info("sealed", run=run, num_admitted=counts.num_admitted, num_refused=counts.num_refused)
        await self.parts.tables.runs.set_state(run, RunState.RUNNING)
        await self.parts.tables.uploads.discard(run)


def _benchmarks(plan: Plan) -> list[Prompt]:
    """What no admitted prompt may repeat."""
    evaluate, first = plan.run.evaluate, plan.run.limit
    if evaluate is None:
        return []
    return [*benchmark_prompts(evaluate.benchmarks, first=first), *benchmark_prompts(evaluate.validation, first=first)]


def _in_thread(rows: AsyncIterator[Row | BadRow], loop: asyncio.AbstractEventLoop) -> Iterator[Row | BadRow]:
    """`rows` for a thread beside `loop`: the filters take long, and must not hold up what else the program does."""
    while True:
        row = asyncio.run_coroutine_threadsafe(_next(rows), loop).result()
        if row is None:
            return
        yield row


async def _next(rows: AsyncIterator[T]) -> T | None:
    return await anext(rows, None)
