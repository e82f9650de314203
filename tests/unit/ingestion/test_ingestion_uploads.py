"""Uploads over a real server, SQLite and a folder: what is acknowledged is durable, and nothing else is."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from tests.ingestion_server import Served, ingestion, plan

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb
from tracemend.api.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from tracemend.api.records.v1 import records_pb2
from tracemend.client import AsyncClient
from tracemend.ingestion.rows import BadRow, Row
from tracemend.ingestion.uploaded import uploaded_rows
from tracemend.ingestion.uploads import UploadSettings
from tracemend.kit.errors import CorruptBlob, Retry
from tracemend.kit.ports import Store
from tracemend.records import Category
from tracemend.runtime.opening import open_store
from tracemend.runtime.rpc.faults import Code, Fault, read_fault


def rows(*texts: str, category: Any = records_pb2.CATEGORY_HARMFUL, **fields: Any) -> bytes:
    made = [pb.PromptRow(text=text, category=category, **fields) for text in texts]
    return bytes(pb.PromptRows(rows=made).SerializeToString())


def header(**fields: Any) -> pb.UploadPromptsRequest:
    given = {"parent": "runs/demo-1", "request_id": "upload-1", "schema_version": 1, **fields}
    return pb.UploadPromptsRequest(header=pb.UploadHeader(**given))


def chunk(sequence: int, content: bytes, *, crc: int | None = None) -> pb.UploadPromptsRequest:
    crc = zlib.crc32(content) if crc is None else crc
    return pb.UploadPromptsRequest(chunk=pb.UploadChunk(sequence=sequence, rows=content, crc32=crc))


def end(num_chunks: int, num_rows: int) -> pb.UploadPromptsRequest:
    return pb.UploadPromptsRequest(end=pb.UploadEnd(num_chunks=num_chunks, num_rows=num_rows))


async def send(served: Served, *messages: pb.UploadPromptsRequest) -> list[pb.Upload]:
    """All answers to a stream of `messages`; raises the `Fault` that it ends in, with the answers before it."""
    told: list[pb.Upload] = []
    async with aio.insecure_channel(served.address) as channel:
        call = IngestionServiceStub(channel).UploadPrompts(each(messages))
        try:
            async for response in call:
                told.append(response.upload)
        except aio.AioRpcError as error:
            fault = read_fault(error)
            fault.told = told  # type: ignore[attr-defined]  # what a test may want to see beside it
            raise fault from None
    return told


async def each(messages: Sequence[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message


async def refused(served: Served, *messages: pb.UploadPromptsRequest) -> Fault:
    with pytest.raises(Fault) as caught:
        await send(served, *messages)
    return caught.value


async def begun(served: Served) -> None:
    async with AsyncClient(served.address) as client:
        await client.begin(plan())


async def texts(served: Served) -> list[str]:
    found = [row async for row in uploaded_rows(served.tables.uploads, served.store, "demo-1")]
    return [row.text.reveal() if isinstance(row, Row) else row.reason for row in found]


async def test_rows_arrive_in_order_with_everything_that_their_source_said(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served:
        await begun(served)
        full = {"source": "s", "where": "s:1", "licence": "MIT", "split": "test", "tags": {"a": "b"}}
        first = rows("one", category=records_pb2.CATEGORY_REASONING, reference="1", **full)
        unreadable = pb.PromptRows(rows=[pb.PromptRow(where="s:2", source="s", reason="not_json", detail="bad")])
        told = await send(served, header(), chunk(0, first), chunk(1, unreadable.SerializeToString()), end(2, 2))
        assert told[-1].complete
        assert (told[-1].next_sequence, told[-1].num_rows) == (2, 2)
        assert told[-1].name == "runs/demo-1/uploads/upload-1"
        read, bad = [row async for row in uploaded_rows(served.tables.uploads, served.store, "demo-1")]
    assert isinstance(read, Row)
    assert read == Row(
        text=read.text, category=Category.REASONING, source="s", where="s:1", licence="MIT", split="test",
        tags={"a": "b"}, reference=read.reference,
    )  # fmt: skip
    assert (read.text.reveal(), read.reference.reveal()) == ("one", "1")
    assert bad == BadRow(where="s:2", source="s", reason="not_json", detail="bad")


async def test_a_stream_that_is_cut_goes_on_where_the_server_says(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served:
        await begun(served)
        open_ended = await send(served, header(), chunk(0, rows("a", "b")), chunk(1, rows("c")))
        assert not open_ended[-1].complete
        (again, *_, done) = await send(served, header(), chunk(2, rows("d")), end(3, 4))
        assert (again.next_sequence, again.num_rows) == (2, 3)
        assert done.complete
        assert await texts(served) == ["a", "b", "c", "d"]


async def test_repeated_chunks_change_nothing_and_other_ones_are_refused(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served:
        await begun(served)
        await send(served, header(), chunk(0, rows("a")), chunk(1, rows("b")))
        told = await send(served, header(), chunk(0, rows("a")), chunk(1, rows("b")), chunk(2, rows("c")))
        assert (told[-1].next_sequence, told[-1].num_rows) == (3, 3)
        fault = await refused(served, header(), chunk(1, rows("other")))
        assert fault.code is Code.FAILED_PRECONDITION
        await send(served, header(), end(3, 3))
        assert await texts(served) == ["a", "b", "c"]


async def test_a_damaged_chunk_is_refused_and_what_came_before_is_kept(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served:
        await begun(served)
        fault = await refused(served, header(), chunk(0, rows("a")), chunk(1, rows("b"), crc=1), chunk(2, rows("c")))
        assert (fault.code, fault.reason) == (Code.ABORTED, "CHUNK_DAMAGED")
        assert fault.metadata["sequence"] == "1"
        (mark, *_) = await send(served, header())
        assert mark.next_sequence == 1


async def test_a_chunk_before_its_turn_is_refused_with_the_one_to_send(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served:
        await begun(served)
        fault = await refused(served, header(), chunk(0, rows("a")), chunk(2, rows("c")))
        assert (fault.code, fault.reason, fault.metadata["expected"]) == (Code.OUT_OF_RANGE, "CHUNK_MISSING", "1")


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ((chunk(0, rows("a")),), "header"),
        ((header(parent="run/x"),), "header.parent"),
        ((header(request_id="../x"),), "header.request_id"),
        ((header(schema_version=9),), "schema_version"),
        ((header(num_expected_rows=-1),), "num_expected_rows"),
        ((header(), chunk(-1, rows("a"))), "sequence"),
        ((header(), chunk(0, b"\xff\xff")), "chunk"),
        ((header(), chunk(0, b"")), "chunk"),
        ((header(), chunk(0, rows("a", category=0))), "chunk"),
        ((header(), header()), "part"),
        ((header(), pb.UploadPromptsRequest()), "part"),
    ],
)
async def test_messages_that_are_wrong_are_told_by_field(tmp_path: Path, messages: Any, field: str) -> None:
    async with ingestion(tmp_path) as served:
        await begun(served)
        fault = await refused(served, *messages)
        assert fault.code is Code.INVALID_ARGUMENT
        assert field in " ".join(fault.violations) or field in str(fault.message)


async def test_an_end_that_tells_of_more_than_is_durable_is_refused(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served:
        await begun(served)
        fault = await refused(served, header(), chunk(0, rows("a")), end(2, 2))
        assert fault.reason == "UPLOAD_INCOMPLETE"


async def test_announced_rows_must_arrive(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served:
        await begun(served)
        fault = await refused(served, header(num_expected_rows=5), chunk(0, rows("a")), end(1, 1))
        assert fault.reason == "UPLOAD_REFUSED"


async def test_a_sealed_run_takes_no_more_rows(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served:
        await begun(served)
        await send(served, header(), chunk(0, rows("a")), end(1, 1))
        async with AsyncClient(served.address) as client:
            await client.run("demo-1").seal()
        fault = await refused(served, header(request_id="late"), chunk(0, rows("b")))
        assert fault.code is Code.FAILED_PRECONDITION
        assert await texts(served) == ["a"]


async def test_an_upload_into_no_run_is_not_found(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served:
        assert (await refused(served, header())).code is Code.NOT_FOUND


async def test_chunks_that_are_too_large_are_refused_with_what_to_do(tmp_path: Path) -> None:
    async with ingestion(tmp_path, uploads=UploadSettings(chunk_bytes=2**16)) as served:
        await begun(served)
        fault = await refused(served, header(), chunk(0, rows("a" * 2**16)))
        assert (fault.code, fault.reason) == (Code.RESOURCE_EXHAUSTED, "CHUNK_TOO_LARGE")


async def test_more_uploads_than_allowed_are_asked_to_come_back(tmp_path: Path) -> None:
    async with ingestion(tmp_path, uploads=UploadSettings(at_once=1)) as served:
        await begun(served)
        async with aio.insecure_channel(served.address) as channel:
            call = IngestionServiceStub(channel).UploadPrompts()
            await call.write(header())
            await call.read()
            fault = await refused(served, header(request_id="second"))
            assert (fault.code, fault.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_UPLOADS")
            assert fault.retry_after_s
            await call.done_writing()
            assert await call.read() is aio.EOF
        assert (await send(served, header(request_id="second")))[0].next_sequence == 0


class SlowStore:
    """A folder whose `put` waits for a gate; counts what is written, and fails while `is_down`."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.gate = asyncio.Event()
        self.is_down = False
        self.num_puts = 0

    async def put(self, content: bytes) -> str:
        self.num_puts += 1
        await self.gate.wait()
        if self.is_down:
            raise Retry("store_gone", after_s=0.1)
        return await self.inner.put(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


async def test_a_slow_store_holds_the_sender_back_instead_of_filling_memory(tmp_path: Path) -> None:
    """64 MiB are offered while nothing can be written: what the server has taken stays within its buffer, and what
    gRPC itself holds in flight."""
    store: Any = SlowStore(open_store(f"file:{tmp_path}"))
    store.gate.set()
    settings = UploadSettings(buffer_bytes=2 * 2**20, pack_bytes=2**20)
    async with ingestion(tmp_path, store=store, uploads=settings) as served:
        await begun(served)
        store.gate.clear()
        content, num_sent = rows("a" * 2**20), 0
        async with aio.insecure_channel(served.address) as channel:
            call = IngestionServiceStub(channel).UploadPrompts()
            await call.write(header())
            await call.read()

            async def offer() -> None:
                nonlocal num_sent
                for sequence in range(64):
                    await call.write(chunk(sequence, content))
                    num_sent += 1
                await call.write(end(64, 64))

            offering = asyncio.create_task(offer())
            await asyncio.sleep(1.0)
            held_back_at = num_sent
            store.gate.set()
            await offering
            last = None
            while (response := await call.read()) is not aio.EOF:
                last = response
        assert held_back_at < 24
        assert last is not None
        assert last.upload.complete
        assert len(await texts(served)) == 64


async def test_nothing_is_acknowledged_before_it_is_durable(tmp_path: Path) -> None:
    store: Any = SlowStore(open_store(f"file:{tmp_path}"))
    store.gate.set()
    async with ingestion(tmp_path, store=store) as served:
        await begun(served)
        store.is_down = True
        fault = await refused(served, header(), chunk(0, rows("a")))
        assert fault.code is Code.UNAVAILABLE
        assert [told.next_sequence for told in fault.told] == [0]  # type: ignore[attr-defined]
        store.is_down = False
        assert (await send(served, header()))[0].next_sequence == 0


async def test_changed_chunks_are_found_out_when_they_are_read_back(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served:
        await begun(served)
        await send(served, header(), chunk(0, rows("a")), end(1, 1))
        (kept,) = [chunk async for chunk in served.tables.uploads.chunks("demo-1")]
        (path,) = tmp_path.rglob(kept.address.pack)
        path.chmod(0o644)
        content = bytearray(path.read_bytes())
        content[3] ^= 1
        path.write_bytes(bytes(content))
        with pytest.raises(CorruptBlob):
            await texts(served)
