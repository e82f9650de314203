"""The parts of a program over a memory bus, a folder and SQLite, so that all services can run in one test."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb
from tracemend.api.records.v1 import records_pb2
from tracemend.embedded.plan import resolve
from tracemend.embedded.runfile import RunFile, parse_run_file
from tracemend.embedded.sourcing import read
from tracemend.embedded.workspace import connect_workspace
from tracemend.ingestion.rows import Row
from tracemend.kit.ports import Address
from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import RunRecord
from tracemend.programs.building import Builder
from tracemend.programs.parts import Parts
from tracemend.programs.plans import Plans, served_name
from tracemend.programs.routing import RoutedBus
from tracemend.programs.watching import RunWatch
from tracemend.runtime.opening import open_bus, open_server_tables

SMALL = """\
name: small
models:
  teacher: {engine: "scripted:null_teacher"}
prompts:
  - {source: numbered, count: 12}
  - {source: numbered, count: 4, start: 500, category: benign}
ingestion: {filters: {near_duplicates: false}}
target: {model: "null", engine: "scripted:null_target", samples: 2}
judge:
  harm: {name: last_word}
  refusal: {name: last_word}
  correctness: {name: last_word}
arms:
  rewrite:
    correct: {strategy: rewrite, teacher: teacher}
"""


def small_run(text: str = SMALL) -> RunFile:
    return parse_run_file(text, name="small.yaml")


@asynccontextmanager
async def parts_in(folder: Path) -> AsyncIterator[Parts]:
    """Parts whose bus, store and ledger nobody else has."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger, store = f"sqlite:{folder / 'ledger.db'}", f"file:{folder / 'store'}"
    async with AsyncExitStack() as stack:
        workspace = await stack.enter_async_context(
            connect_workspace(folder / "scratch", store=store, ledger=ledger, worker="test")
        )
        tables = open_server_tables(ledger)
        stack.push_async_callback(tables.aclose)
        bus = open_bus("memory:")
        stack.push_async_callback(bus.aclose)
        plans, runs = Plans(workspace.store), RunWatch(workspace.ledger, tables.runs, max_age_s=0.1)
        watch = asyncio.create_task(runs.watch())
        stack.callback(watch.cancel)
        yield Parts(
            bus=RoutedBus(bus, plans),
            tables=tables,
            workspace=workspace,
            plans=plans,
            runs=runs,
            build=Builder(results=workspace.results, cache=folder / "cache"),
            concurrency=16,
        )


async def submit(parts: Parts, settings: RunFile, *, run: str = "run-1") -> RunRecord:
    """Create a run and upload its prompts, as the servicer does, up to its seal."""
    plan = resolve(settings)
    digest = await parts.workspace.store.put(plan.content)
    target = served_name(plan.run.target)
    await parts.tables.runs.create(RunRecord(run=run, name=settings.name, plan=digest, target=target))
    content = pb.PromptRows(rows=[_row(row) for row in read(settings.prompts) if isinstance(row, Row)])
    raw = content.SerializeToString()
    address = Address(
        pack=await parts.workspace.store.put(raw), offset=0, length=len(raw), digest=hashlib.sha256(raw).hexdigest()
    )
    await parts.tables.uploads.begin(run, f"upload-{run}")
    await parts.tables.uploads.append(f"upload-{run}", 0, address=address, num_rows=len(content.rows), crc=0)
    await parts.tables.uploads.complete(f"upload-{run}")
    return await parts.tables.runs.set_state(run, RunState.SEALED)


def _row(row: Row) -> pb.PromptRow:
    category = getattr(records_pb2, f"CATEGORY_{row.category.name}")
    return pb.PromptRow(text=row.text.reveal(), category=category, source=row.source, where=row.where)
