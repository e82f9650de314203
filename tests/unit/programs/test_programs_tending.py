"""One holder per run, over the leases and the run table of SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tracemend.kit.errors import SetupError
from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import RunRecord, ServerTables
from tracemend.programs.tending import Tender
from tracemend.runtime.opening import open_server_tables

RUNNING = frozenset({RunState.RUNNING})


@asynccontextmanager
async def tables_in(folder: Path) -> AsyncIterator[ServerTables]:
    tables = open_server_tables(f"sqlite:{folder / 'ledger.db'}")
    try:
        yield tables
    finally:
        await tables.aclose()


@asynccontextmanager
async def tended(*tenders: Tender) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(tender.run()) for tender in tenders]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def running(tables: ServerTables, run: str) -> RunRecord:
    await tables.runs.create(RunRecord(run=run, plan="plan"))
    await tables.runs.set_state(run, RunState.SEALED)
    return await tables.runs.set_state(run, RunState.RUNNING)


def tender(
    tables: ServerTables,
    work: Callable[[RunRecord], Awaitable[None]],
    fail: Callable[[str, str], Awaitable[None]] | None = None,
) -> Tender:
    async def do(record: RunRecord) -> None:
        await work(record)

    async def nothing(run: str, reason: str) -> None:
        raise AssertionError(f"{run} failed: {reason}")

    return Tender("test", do, states=RUNNING, tables=tables, fail=fail or nothing, every_s=0.01)


async def forever(record: RunRecord) -> None:
    await asyncio.Event().wait()


def test_of_two_tenders_one_does_the_work_of_a_run(tmp_path: Path) -> None:
    async def check() -> None:
        begun: list[str] = []

        async def work(record: RunRecord) -> None:
            begun.append(record.run)
            await forever(record)

        async with tables_in(tmp_path) as tables, tables_in(tmp_path) as others:
            await running(tables, "run-1")
            async with tended(tender(tables, work), tender(others, work)):
                await asyncio.sleep(0.5)
                assert begun == ["run-1"]

    asyncio.run(check())


def test_work_is_cancelled_when_its_run_stops_and_begins_anew_when_it_goes_on(tmp_path: Path) -> None:
    async def check() -> None:
        told: asyncio.Queue[str] = asyncio.Queue()

        async def work(record: RunRecord) -> None:
            await told.put("begins")
            try:
                await forever(record)
            finally:
                await told.put("ends")

        async with tables_in(tmp_path) as tables, asyncio.timeout(20):
            await running(tables, "run-1")
            async with tended(tender(tables, work)):
                assert await told.get() == "begins"
                await tables.runs.set_state("run-1", RunState.PAUSED)
                assert await told.get() == "ends"
                await tables.runs.set_state("run-1", RunState.RUNNING)
                assert await told.get() == "begins"

    asyncio.run(check())


def test_work_that_has_ended_rests_until_the_run_changes(tmp_path: Path) -> None:
    async def check() -> None:
        begun: list[str] = []

        async def work(record: RunRecord) -> None:
            begun.append(record.etag)

        async with tables_in(tmp_path) as tables:
            await running(tables, "run-1")
            async with tended(tender(tables, work)):
                await asyncio.sleep(0.3)
                assert len(begun) == 1
                await tables.runs.set_state("run-1", RunState.PAUSED)
                await tables.runs.set_state("run-1", RunState.RUNNING)
                await asyncio.sleep(0.5)
                assert len(begun) == 2

    asyncio.run(check())


def test_what_the_owner_must_change_fails_the_run_and_a_bug_stops_no_other(tmp_path: Path) -> None:
    async def check() -> None:
        failed: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        done: asyncio.Queue[str] = asyncio.Queue()

        async def work(record: RunRecord) -> None:
            if record.run == "lacking":
                raise SetupError("set TEACHER_URL")
            if record.run == "buggy":
                raise ZeroDivisionError
            await done.put(record.run)

        async def fail(run: str, reason: str) -> None:
            await failed.put((run, reason))

        async with tables_in(tmp_path) as tables, asyncio.timeout(20):
            for run in ("lacking", "buggy", "sound"):
                await running(tables, run)
            async with tended(tender(tables, work, fail)):
                assert await failed.get() == ("lacking", "set TEACHER_URL")
                assert await done.get() == "sound"

    asyncio.run(check())
