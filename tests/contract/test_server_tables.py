"""What the tables of the services do: `kit.server_ports` in code, over every database."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.ledgers import URLS, address, prompt

from tracemend.adapters.sql_ledger import SqlLedger
from tracemend.adapters.sql_server import SqlServerTables
from tracemend.kit.run_states import TRANSITIONS, RunState
from tracemend.kit.server_ports import Conflict, Fenced, Gap, JobState, RunRecord, ServerTables

RECORD = RunRecord(
    run="r1", name="first", plan="p1", target="small", submitted_by="ann", labels={"team": "red", "nul": "a\x00b"}
)


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.servers) if name != "sqlite" else name for name in URLS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return URLS[request.param](tmp_path)


@pytest.fixture
async def tables(url: str) -> AsyncIterator[ServerTables]:
    """Tables whose clock ticks once a second, with every question."""
    seconds = itertools.count(1000)
    opened = SqlServerTables(url, clock=lambda: float(next(seconds)))
    yield opened
    await opened.aclose()


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[SqlLedger]:
    opened = SqlLedger(url)
    yield opened
    await opened.aclose()


# ------------------------------------------------------------------------------------------------ runs


async def test_a_run_is_created_once_and_its_creator_may_ask_again(tables: ServerTables) -> None:
    created = await tables.runs.create(replace(RECORD, state=RunState.DONE, num_rows=9, etag="made up"))
    assert created == replace(RECORD, etag=created.etag, created_s=1000, updated_s=1000)
    assert created.etag not in ("", "made up")
    assert await tables.runs.create(RECORD) == created == await tables.runs.get("r1")
    assert await tables.runs.get("other") is None


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("plan", replace(RECORD, plan="other")),
        ("name", replace(RECORD, name="other")),
        ("target", replace(RECORD, target="other")),
        ("submitted_by", replace(RECORD, submitted_by="other")),
    ],
)
async def test_another_run_of_the_same_id_is_refused(tables: ServerTables, field: str, other: RunRecord) -> None:
    created = await tables.runs.create(RECORD)
    with pytest.raises(Conflict, match=field):
        await tables.runs.create(other)
    assert await tables.runs.get("r1") == created


async def test_a_paused_run_takes_another_plan_from_its_submitter(tables: ServerTables, ledger: SqlLedger) -> None:
    created = await tables.runs.create(RECORD)
    await ledger.set_state("r1", "paused")
    with pytest.raises(Conflict, match="plan and submitted_by"):
        await tables.runs.create(replace(RECORD, plan="p2", submitted_by="other"))
    changed = await tables.runs.create(replace(RECORD, plan="p2"))
    assert (changed.plan, changed.state) == ("p2", RunState.PAUSED)
    assert changed.etag != created.etag
    assert changed == await tables.runs.get("r1") == await tables.runs.create(replace(RECORD, plan="p2"))
    assert await ledger.run_plan("r1") == "p2"


async def test_a_run_and_the_ledgers_run_are_one(tables: ServerTables, ledger: SqlLedger) -> None:
    created = await tables.runs.create(RECORD)
    assert await ledger.open_run("r1", plan="p1") == "receiving"
    assert (await tables.runs.get("r1")) == created, "opening it with its own plan changes nothing"
    await ledger.admit("r1", prompts=[prompt(0)], refused=[], units=[])
    admitted = await tables.runs.get("r1")
    assert admitted is not None
    assert (admitted.num_admitted, admitted.num_refused) == (1, 0)
    assert admitted.etag != created.etag
    await ledger.set_state("r1", "paused")
    paused = await tables.runs.get("r1")
    assert paused is not None
    assert (paused.state, paused.plan) == (RunState.PAUSED, "p1")
    assert paused.etag not in (created.etag, admitted.etag)
    assert paused.updated_s > created.updated_s


async def test_a_run_moves_by_the_table_and_nowhere_else(tables: ServerTables, ledger: SqlLedger) -> None:
    await tables.runs.create(RECORD)
    for before, after in itertools.product(RunState, RunState):
        await ledger.set_state("r1", before.value)
        if before == after or after in TRANSITIONS[before]:
            assert (await tables.runs.set_state("r1", after)).state is after
        else:
            with pytest.raises(Conflict, match=f"is {before.value}, and cannot become {after.value}"):
                await tables.runs.set_state("r1", after)
            assert await ledger.run_state("r1") == before.value


async def test_a_run_that_changed_since_it_was_read_is_not_moved(tables: ServerTables) -> None:
    read = await tables.runs.create(RECORD)
    moved = await tables.runs.set_state("r1", RunState.CANCELLED, expected_etag=read.etag, reason="user")
    assert (moved.state, moved.reason) == (RunState.CANCELLED, "user")
    assert moved.etag != read.etag
    assert moved.updated_s > read.updated_s
    with pytest.raises(Conflict, match="etag"):
        await tables.runs.set_state("r1", RunState.CANCELLED, expected_etag=read.etag)
    assert await tables.runs.set_state("r1", RunState.CANCELLED, expected_etag=moved.etag) == moved
    with pytest.raises(KeyError):
        await tables.runs.set_state("unknown", RunState.CANCELLED)


async def test_runs_are_listed_the_newest_first_page_by_page(tables: ServerTables) -> None:
    for number in range(7):
        await tables.runs.create(replace(RECORD, run=f"r{number}"))
        if number % 2:
            await tables.runs.set_state(f"r{number}", RunState.SEALED)
    names = [f"r{number}" for number in reversed(range(7))]
    assert [each.run for each in await tables.runs.page()] == names
    assert [each.run for each in await tables.runs.page(limit=3)] == names[:3]
    assert [each.run for each in await tables.runs.page(after="r4", limit=3)] == names[3:6]
    assert await tables.runs.page(after="r0") == []
    assert await tables.runs.page(limit=0) == []
    sealed = await tables.runs.page(states=[RunState.SEALED], after="r5")
    assert [each.run for each in sealed] == ["r3", "r1"]
    both = await tables.runs.page(states={RunState.SEALED, RunState.RECEIVING}, after="r6", limit=4)
    assert [each.run for each in both] == names[1:5]
    assert await tables.runs.page(states=[RunState.FAILED]) == []
    with pytest.raises(KeyError):
        await tables.runs.page(after="unknown")


async def test_runs_of_one_moment_are_all_listed(url: str) -> None:
    tables = SqlServerTables(url, clock=lambda: 5.0)
    for number in range(5):
        await tables.runs.create(replace(RECORD, run=f"r{number}"))
    first = await tables.runs.page(limit=2)
    rest = await tables.runs.page(after=first[-1].run)
    assert [each.run for each in (*first, *rest)] == ["r4", "r3", "r2", "r1", "r0"]
    await tables.aclose()


# --------------------------------------------------------------------------------------------- uploads


@pytest.fixture
async def upload(tables: ServerTables) -> str:
    """An upload of 30 rows to r1."""
    await tables.runs.create(RECORD)
    await tables.uploads.begin("r1", "u1", num_expected=30, digest="d")
    return "u1"


async def send(tables: ServerTables, upload: str, sequence: int) -> int:
    label = f"{upload}/{sequence}"
    return await tables.uploads.append(upload, sequence, address=address(label), num_rows=10, crc=2**32 - sequence - 1)


async def test_an_upload_is_resumed_where_its_mark_is(tables: ServerTables, upload: str) -> None:
    assert [await send(tables, upload, sequence) for sequence in (0, 1, 0, 1)] == [1, 2, 2, 2]
    resumed = await tables.uploads.begin("r1", upload, num_expected=30, digest="d")
    assert (resumed.num_chunks, resumed.num_rows, resumed.is_complete) == (2, 20, False)
    assert await tables.uploads.mark(upload) == resumed
    assert await tables.uploads.mark("unknown") is None
    with pytest.raises(Gap) as gap:
        await send(tables, upload, 3)
    assert gap.value.expected == 2
    assert await send(tables, upload, 2) == 3


async def test_another_chunk_under_a_sequence_is_refused(tables: ServerTables, upload: str) -> None:
    await send(tables, upload, 0)
    for rows, crc, label in ((9, 2**32 - 1, "u1/0"), (10, 1, "u1/0"), (10, 2**32 - 1, "other")):
        with pytest.raises(Conflict, match="another chunk 0"):
            await tables.uploads.append(upload, 0, address=address(label), num_rows=rows, crc=crc)
    elsewhere = replace(address("u1/0"), pack="another pack", offset=7)
    assert await tables.uploads.append(upload, 0, address=elsewhere, num_rows=10, crc=2**32 - 1) == 1


async def test_rows_count_once_their_upload_is_complete(tables: ServerTables, upload: str) -> None:
    for sequence in (0, 1):
        await send(tables, upload, sequence)
    with pytest.raises(Conflict, match="announced 30 rows and has 20"):
        await tables.uploads.complete(upload)
    assert [each async for each in tables.uploads.chunks("r1")] == []
    await send(tables, upload, 2)
    completed = await tables.uploads.complete(upload)
    assert (completed.is_complete, completed.num_rows) == (True, 30)
    assert await tables.uploads.complete(upload) == completed
    run = await tables.runs.get("r1")
    assert run is not None
    assert run.num_rows == 30
    assert await send(tables, upload, 2) == 3, "a chunk may be repeated for ever"
    with pytest.raises(Conflict, match="is complete"):
        await send(tables, upload, 3)


async def test_chunks_come_in_the_order_of_uploads_and_sequences(tables: ServerTables) -> None:
    await tables.runs.create(RECORD)
    await tables.runs.create(replace(RECORD, run="r2"))
    for run, upload in (("r1", "zebra"), ("r2", "other"), ("r1", "ant"), ("r1", "unfinished")):
        await tables.uploads.begin(run, upload)
    for upload in ("ant", "zebra", "other", "unfinished"):
        for sequence in range(2):
            await send(tables, upload, sequence)
        if upload != "unfinished":
            await tables.uploads.complete(upload)
    found = [(each.upload, each.sequence) async for each in tables.uploads.chunks("r1")]
    assert found == [("zebra", 0), ("zebra", 1), ("ant", 0), ("ant", 1)]
    (first, *_) = [each async for each in tables.uploads.chunks("r2")]
    assert (first.address, first.num_rows, first.crc) == (address("other/0"), 10, 2**32 - 1)


async def test_more_chunks_than_one_page_come_whole(tables: ServerTables) -> None:
    await tables.runs.create(RECORD)
    await tables.uploads.begin("r1", "u")
    for sequence in range(1001):
        await send(tables, "u", sequence)
    await tables.uploads.complete("u")
    assert [each.sequence async for each in tables.uploads.chunks("r1")] == list(range(1001))


async def test_a_run_that_is_sealed_takes_no_more_rows(tables: ServerTables, upload: str) -> None:
    await send(tables, upload, 0)
    await tables.runs.set_state("r1", RunState.SEALED)
    for late in (
        tables.uploads.begin("r1", "u2"),
        send(tables, upload, 1),
        tables.uploads.complete(upload),
    ):
        with pytest.raises(Conflict, match="sealed and takes no more rows"):
            await late
    assert await send(tables, upload, 0) == 1
    assert (await tables.uploads.begin("r1", upload, num_expected=30, digest="d")).num_chunks == 1


async def test_uploads_of_nothing_known_are_refused(tables: ServerTables, upload: str) -> None:
    for stray in (
        tables.uploads.begin("unknown", "u2"),
        send(tables, "unknown", 0),
        tables.uploads.complete("unknown"),
    ):
        with pytest.raises(KeyError):
            await stray
    await tables.runs.create(replace(RECORD, run="r2"))
    for run, rows, digest in (("r2", 30, "d"), ("r1", 29, "d"), ("r1", 30, "e")):
        with pytest.raises(Conflict, match="begun with another"):
            await tables.uploads.begin(run, upload, num_expected=rows, digest=digest)


async def test_chunks_are_kept_until_their_rows_are_admitted(
    tables: ServerTables, ledger: SqlLedger, upload: str
) -> None:
    for sequence in range(3):
        await send(tables, upload, sequence)
    await tables.uploads.complete(upload)
    with pytest.raises(Conflict, match="not admitted yet"):
        await tables.uploads.discard("r1")
    assert {address(f"u1/{sequence}").pack for sequence in range(3)} <= await ledger.referenced()
    await ledger.admit("r1", prompts=[], refused=[], units=[])
    assert await tables.uploads.discard("r1") == 3
    assert await tables.uploads.discard("r1") == 0
    assert [each async for each in tables.uploads.chunks("r1")] == []
    assert await ledger.referenced() == {"p1"}


# -------------------------------------------------------------------------------------------- requests


async def test_the_first_answer_to_a_request_is_kept_for_who_asks_again(tables: ServerTables) -> None:
    requests = tables.requests
    assert await requests.recall("ann", "/m", "1") is None
    first = await requests.remember("ann", "/m", "1", digest="d", response=b"\x00one")
    assert (first.digest, first.response) == ("d", b"\x00one")
    assert await requests.remember("ann", "/m", "1", digest="e", response=b"two") == first
    assert await requests.recall("ann", "/m", "1") == first
    for other in (("bob", "/m", "1"), ("ann", "/n", "1"), ("ann", "/m", "2")):
        assert await requests.recall(*other) is None


async def test_old_answers_are_dropped_and_newer_ones_are_not(tables: ServerTables) -> None:
    for number in range(4):  # answered at 1000, 1001, …
        await tables.requests.remember("ann", "/m", str(number), digest="d", response=b"")
    assert await tables.requests.expire(before_s=1002) == 2
    assert await tables.requests.expire(before_s=1002) == 0
    kept = [await tables.requests.recall("ann", "/m", str(number)) is not None for number in range(4)]
    assert kept == [False, False, True, True]


# ------------------------------------------------------------------------------------------------ jobs


async def test_a_newer_attempt_fences_off_the_one_before(tables: ServerTables) -> None:
    jobs = tables.jobs
    assert await jobs.get("k") is None
    assert await jobs.start("k", plan="p", kind="training", run="r1", submitted_by="ann") == 1
    job = await jobs.progress("k", 1, {"step": 3, "loss": 0.5})
    assert (job.state, job.attempt, job.progress) == (JobState.RUNNING, 1, {"step": 3, "loss": 0.5})
    assert (job.kind, job.run, job.submitted_by, job.plan) == ("training", "r1", "ann", "p")
    assert await jobs.start("k", plan="p") == 2
    started = await jobs.get("k")
    assert started is not None
    assert (started.progress, started.kind) == ({}, "training")
    for late in (
        jobs.progress("k", 1, {}),
        jobs.finish("k", 1, address=address("late")),
        jobs.fail("k", 1, reason="late"),
        jobs.progress("k", 3, {}),
    ):
        with pytest.raises(Fenced):
            await late
    assert await jobs.get("k") == started
    done = await jobs.finish("k", 2, address=address("model"))
    assert (done.state, done.address) == (JobState.DONE, address("model"))
    assert done.etag != started.etag


async def test_the_end_of_a_job_may_be_told_again_and_not_otherwise(tables: ServerTables) -> None:
    jobs = tables.jobs
    await jobs.start("k", plan="p")
    done = await jobs.finish("k", 1, address=address("model"))
    assert await jobs.finish("k", 1, address=address("model")) == done
    for other in (
        jobs.finish("k", 1, address=address("other")),
        jobs.fail("k", 1, reason="x"),
        jobs.progress("k", 1, {}),
    ):
        with pytest.raises(Fenced):
            await other
    with pytest.raises(Conflict, match="is done and cannot be started"):
        await jobs.start("k", plan="p")
    with pytest.raises(Conflict, match="is done and cannot be cancelled"):
        await jobs.cancel("k")
    with pytest.raises(KeyError):
        await jobs.progress("unknown", 1, {})


async def test_a_failed_job_may_be_started_again_from_its_own_plan(tables: ServerTables) -> None:
    jobs = tables.jobs
    await jobs.start("k", plan="p")
    failed = await jobs.fail("k", 1, reason="out of memory")
    assert (failed.state, failed.reason) == (JobState.FAILED, "out of memory")
    assert await jobs.fail("k", 1, reason="out of memory") == failed
    with pytest.raises(Conflict, match="another plan"):
        await jobs.start("k", plan="q")
    assert await jobs.start("k", plan="p") == 2
    again = await jobs.get("k")
    assert again is not None
    assert (again.state, again.reason, again.attempt) == (JobState.RUNNING, "", 2)


async def test_a_failed_job_may_leave_what_it_did_even_so(tables: ServerTables) -> None:
    jobs = tables.jobs
    await jobs.start("k", plan="p")
    failed = await jobs.fail("k", 1, reason="one arm has no rows", address=address("left"))
    assert (failed.state, failed.address) == (JobState.FAILED, address("left"))
    assert await jobs.fail("k", 1, reason="one arm has no rows") == failed, "whoever watched it says so as well"


async def test_a_cancelled_job_stays_so_and_its_attempt_is_told(tables: ServerTables) -> None:
    jobs = tables.jobs
    await jobs.start("k", plan="p")
    read = await jobs.progress("k", 1, {"step": 1})
    cancelled = await jobs.cancel("k", expected_etag=read.etag, reason="user")
    assert (cancelled.state, cancelled.reason) == (JobState.CANCELLED, "user")
    assert await jobs.cancel("k") == cancelled
    with pytest.raises(Conflict, match="etag"):
        await jobs.cancel("k", expected_etag=read.etag)
    with pytest.raises(Fenced):
        await jobs.progress("k", 1, {"step": 2})
    with pytest.raises(Conflict, match="is cancelled"):
        await jobs.start("k", plan="p")
    with pytest.raises(KeyError):
        await jobs.cancel("unknown")


async def test_jobs_are_listed_the_newest_first_by_kind_run_and_state(tables: ServerTables) -> None:
    jobs = tables.jobs
    for number in range(6):
        kind = ("training", "evaluation")[number % 2]
        await jobs.start(f"k{number}", plan="p", kind=kind, run=f"r{number // 3}")
    await jobs.finish("k2", 1, address=address("model"))
    assert [job.key for job in await jobs.page(limit=4)] == ["k5", "k4", "k3", "k2"]
    assert [job.key for job in await jobs.page(after="k3")] == ["k2", "k1", "k0"]
    assert [job.key for job in await jobs.page(kind="training")] == ["k4", "k2", "k0"]
    assert [job.key for job in await jobs.page(kind="training", run="r0", states=[JobState.RUNNING])] == ["k0"]
    assert [job.key for job in await jobs.page(states=list(JobState), run="r1")] == ["k5", "k4", "k3"]


async def test_what_jobs_work_from_and_gave_is_kept(tables: ServerTables, ledger: SqlLedger) -> None:
    await tables.jobs.start("k", plan="plan of k")
    assert await ledger.referenced() == {"plan of k"}
    await tables.jobs.finish("k", 1, address=address("model"))
    assert await ledger.referenced() == {"plan of k", address("model").pack}


# ------------------------------------------------------------------------------------ several at a time


async def test_of_runs_created_at_the_same_time_one_is_kept(tables: ServerTables, url: str) -> None:
    other = SqlServerTables(url)
    calls = [each.runs.create(replace(RECORD, plan=f"p{n}")) for n, each in enumerate([tables, other] * 4)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, RunRecord) for answer in answers) == 1
    assert sum(isinstance(answer, Conflict) for answer in answers) == 7
    await other.aclose()


async def test_chunks_sent_twice_at_the_same_time_are_kept_once(tables: ServerTables, url: str, upload: str) -> None:
    other = SqlServerTables(url)
    for sequence in range(3):
        marks = await asyncio.gather(*(send(each, upload, sequence) for each in (tables, other) * 3))
        assert marks == [sequence + 1] * 6
    await asyncio.gather(*(each.uploads.complete(upload) for each in (tables, other)))
    run = await tables.runs.get("r1")
    assert run is not None
    assert run.num_rows == 30
    await other.aclose()


async def test_attempts_begun_at_the_same_time_have_numbers_of_their_own(tables: ServerTables, url: str) -> None:
    other = SqlServerTables(url)
    numbers = await asyncio.gather(*(each.jobs.start("k", plan="p") for each in (tables, other) * 5))
    assert sorted(numbers) == list(range(1, 11))
    heard = await asyncio.gather(*(tables.jobs.progress("k", n, {}) for n in numbers), return_exceptions=True)
    assert [isinstance(each, Fenced) for each in heard] == [number != 10 for number in numbers]
    await other.aclose()
