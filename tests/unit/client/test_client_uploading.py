"""Uploads by the client over bad networks, restarting servers and odd rows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import builders
from tests.cutting_proxy import cutting_proxy
from tests.ingestion_server import Served, ingestion, plan

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb
from tracemend.client import AsyncClient, CallError, Progress, PromptRow, UnreadableRow
from tracemend.client.rows import CHUNK_BYTES, CHUNK_ROWS, chunks_of
from tracemend.ingestion.rows import BadRow, Row
from tracemend.ingestion.uploaded import uploaded_rows
from tracemend.records import Category
from tracemend.redaction import Text


def rows(number: int, *, size: int = 1000) -> Iterator[PromptRow]:
    return (PromptRow(text=Text(f"{n} ".ljust(size, "x")), category=Category.HARMFUL) for n in range(number))


async def arrived(served: Served, run: str = "demo-1") -> list[Row | BadRow]:
    return [row async for row in uploaded_rows(served.tables.uploads, served.store, run)]


def numbers(found: list[Row | BadRow]) -> list[int]:
    return [int(row.text.reveal().split()[0]) for row in found if isinstance(row, Row)]


async def test_an_upload_survives_cut_connections_without_losing_or_doubling_a_row(tmp_path: Path) -> None:
    marks: list[Progress] = []
    async with (
        ingestion(tmp_path) as served,
        cutting_proxy(served.address, cut_after_bytes=[2_000_000, 700_000, 1_500_000]) as proxy,
        AsyncClient(proxy.address) as client,
    ):
        await client.submit(plan(), rows(5000), on_progress=marks.append)
        assert proxy.num_cuts == 3
        assert numbers(await arrived(served)) == list(range(5000))
    assert marks[-1].is_complete
    assert [mark.num_rows for mark in marks] == sorted(mark.num_rows for mark in marks)


async def test_an_upload_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    async def slowly() -> AsyncIterator[PromptRow]:
        for number, row in enumerate(rows(3000)):
            if number % 500 == 499:
                await asyncio.sleep(0.1)
            yield row

    uploading = None
    async with ingestion(tmp_path) as served:
        port = int(served.address.rpartition(":")[2])
        client = AsyncClient(served.address)
        run = await client.begin(plan())
        begun = asyncio.Event()
        uploading = asyncio.create_task(run.upload(slowly(), on_progress=lambda progress: begun.set()))
        await begun.wait()
        await asyncio.sleep(0.2)
    assert not uploading.done()
    async with ingestion(tmp_path, port=port) as served:
        done = await asyncio.wait_for(uploading, 30)
        assert (done.num_rows, done.is_complete) == (3000, True)
        assert numbers(await arrived(served)) == list(range(3000))
        await client.aclose()


async def test_another_process_goes_on_with_an_upload_that_one_began(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def breaking() -> Iterator[PromptRow]:
        for number, row in enumerate(rows(4000)):
            if number == 3000:
                raise Killed
            yield row

    async with ingestion(tmp_path) as served:
        async with AsyncClient(served.address) as first:
            with pytest.raises(Killed):
                await first.submit(plan(), breaking())
        async with AsyncClient(served.address) as second:
            run = await second.submit(plan(), rows(4000))
            assert (await run.status()).num_received == 4000
        assert numbers(await arrived(served)) == list(range(4000))


async def test_another_process_with_other_rows_is_refused(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, AsyncClient(served.address) as client:
        run = await client.begin(plan())
        await run.upload(rows(600), upload="mine")
        with pytest.raises(CallError) as caught:
            await run.upload(rows(700), upload="mine")
        assert "complete with 600 rows, and these are 700" in str(caught.value)


async def test_another_process_with_many_more_rows_is_refused_too(tmp_path: Path) -> None:
    """More than the window holds: nobody empties it once the upload is complete."""
    async with ingestion(tmp_path) as served, AsyncClient(served.address) as client:
        run = await client.begin(plan())
        await run.upload(rows(600), upload="mine")
        with pytest.raises(CallError, match="complete with 600 rows, and these are 3,000"):
            await asyncio.wait_for(run.upload(rows(3000, size=8000), upload="mine"), 30)


async def test_submitting_again_finds_the_run_and_changes_nothing(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, AsyncClient(served.address) as client:
        first = await client.submit(plan(), rows(10))
        again = await client.submit(plan(), rows(10))
        assert first.name == again.name
        assert len(await arrived(served)) == 10


async def test_rows_come_as_records_mappings_and_failures(tmp_path: Path) -> None:
    prompt = builders.prompt("how ?", tags={"set": "a"}, source="mine")
    given: list[Any] = [
        prompt,
        {"text": "two and two", "category": "reasoning", "reference": "4"},
        UnreadableRow(where="f:3", source="f", reason="not_json", detail="line 3"),
        PromptRow(text=Text("half \ud800"), category=Category.BENIGN, source="s", where="s:4"),
        PromptRow(text=Text("x" * (CHUNK_BYTES + 1)), category=Category.BENIGN, source="s", where="s:5"),
    ]
    async with ingestion(tmp_path) as served, AsyncClient(served.address) as client:
        await client.submit(plan(), given)
        one, two, three, four, five = await arrived(served)
    assert isinstance(one, Row)
    assert (one.text.reveal(), one.tags, one.source, one.where) == ("how ?", {"set": "a"}, "mine", prompt.id)
    assert isinstance(two, Row)
    assert (two.category, two.reference.reveal()) == (Category.REASONING, "4")
    assert three == BadRow(where="f:3", source="f", reason="not_json", detail="line 3")
    assert [(bad.where, bad.reason) for bad in (four, five) if isinstance(bad, BadRow)] == [
        ("s:4", "bad_unicode"),
        ("s:5", "too_long"),
    ]


async def test_a_file_name_that_is_no_text_holds_up_no_row() -> None:
    odd = os.fsdecode(b"prompts-\xff.csv") + ":2"
    rows_of_it = [
        UnreadableRow(where=odd, source=odd, reason="not_csv", detail=odd),
        PromptRow(text=Text("\ud800"), category=Category.HARMFUL, source=odd, where=odd),
        PromptRow(text=Text("fine"), category=Category.HARMFUL, source=odd, where=odd),
    ]
    (chunk,) = [chunk async for chunk in chunks_of(rows_of_it)]
    assert chunk.num_rows == 3
    sent = pb.PromptRows.FromString(chunk.content).rows
    assert [row.reason for row in sent] == ["not_csv", "bad_unicode", ""]
    assert {row.where for row in sent} == {"prompts-?.csv:2"}


async def test_equal_rows_give_equal_chunks_within_their_bounds() -> None:
    first = [chunk async for chunk in chunks_of(rows(3000, size=3000))]
    again = [chunk async for chunk in chunks_of(list(rows(3000, size=3000)))]
    assert first == again
    assert sum(chunk.num_rows for chunk in first) == 3000
    assert [chunk.sequence for chunk in first] == list(range(len(first)))
    assert max(chunk.num_rows for chunk in first) == CHUNK_ROWS
    large = [chunk async for chunk in chunks_of(rows(100, size=30_000))]
    assert max(len(chunk.content) for chunk in large) <= CHUNK_BYTES + 4 * CHUNK_ROWS
    assert [chunk async for chunk in chunks_of([])] == []


async def test_a_server_that_stays_away_is_given_up_after_the_patience() -> None:
    async with AsyncClient("127.0.0.1:1", patience_s=0.5) as client:
        with pytest.raises(CallError) as caught:
            await client.begin(plan())
    assert caught.value.code == "UNAVAILABLE"
    assert "127.0.0.1:1 is out of reach" in str(caught.value)
