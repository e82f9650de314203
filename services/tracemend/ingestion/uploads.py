"""Uploads of prompts: from a stream of chunks into the store, acknowledged when durable.

The servicer hands a stream here. Two things go on at once: chunks are read and checked into a buffer, and whatever the
buffer holds becomes one pack in the store and rows of the upload's table, after which the new high-water mark is
answered. Invariants: nothing is acknowledged before it is durable; what was checked before a bad message still is kept
and acknowledged; the buffer is bounded in bytes, so a slow store slows the sender down instead of filling memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb
from tracemend.ingestion.uploaded import SCHEMA_VERSION, checked_rows
from tracemend.kit.ports import Address, Store
from tracemend.kit.server_ports import Conflict, Gap, Upload, Uploads
from tracemend.kit.settings import Section
from tracemend.kit.telemetry import NO_TELEMETRY, UPLOADED_ROWS, Telemetry
from tracemend.runtime.rpc.faults import Code, Fault, exhausted, invalid, not_found, precondition
from tracemend.runtime.rpc.names import format_name, parse_name

RUN = "runs/{run}"
UPLOAD = "runs/{run}/uploads/{upload}"


class UploadSettings(Section):
    """How much of uploads may be held in memory, and how many go on at once."""

    chunk_bytes: int = Field(2 * 2**20, ge=2**16)
    """Largest chunk that is taken."""
    buffer_bytes: int = Field(8 * 2**20, ge=2**20)
    """Read and not yet durable, per stream."""
    pack_bytes: int = Field(4 * 2**20, ge=2**16)
    """Made durable at once."""
    at_once: int = Field(16, ge=1)
    """Streams; others are asked to come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """A checked chunk on its way to the store."""

    sequence: int
    content: bytes
    num_rows: int
    crc: int


class UploadDesk:
    """Takes streams of prompts. One per program."""

    def __init__(
        self, *, uploads: Uploads, store: Store, settings: UploadSettings, telemetry: Telemetry = NO_TELEMETRY
    ) -> None:
        self._uploads = uploads
        self._telemetry = telemetry
        self._store = store
        self._settings = settings
        self._num_streams = 0

    async def receive(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The `Upload` messages that answer a stream of `UploadPromptsRequest`: how far it is durable, at its beginning
        and after each pack."""
        if self._num_streams >= self._settings.at_once:
            raise exhausted("TOO_MANY_UPLOADS", "too many uploads go on at once; try again", retry_after_s=5.0)
        self._num_streams += 1
        try:
            async for upload in self._receive(requests):
                yield message_of(upload)
        finally:
            self._num_streams -= 1

    async def _receive(self, requests: AsyncIterator[Any]) -> AsyncIterator[Upload]:
        upload = await self._begin(await anext(requests, None))
        yield upload
        buffer = _Buffer(self._settings.buffer_bytes)
        reading = asyncio.create_task(self._read(requests, buffer, first=upload.num_chunks))
        try:
            while chunks := await buffer.take(self._settings.pack_bytes):
                yield await self._keep(upload, chunks)
            end = await reading
            if end is not None:
                yield await self._complete(upload, end)
        finally:
            reading.cancel()
            await asyncio.wait({reading})
            if not reading.cancelled():
                reading.exception()  # it was raised above, or nobody waits for it any more

    # --------------------------------------------------------------------------------------- reading

    async def _begin(self, request: Any) -> Upload:
        if request is None or request.WhichOneof("part") != "header":
            raise invalid(header="must be the first message of the stream")
        header = request.header
        (run,) = parse_name(header.parent, RUN, field="header.parent")
        parse_name(header.request_id, "{upload}", field="header.request_id")
        if header.schema_version not in (0, SCHEMA_VERSION):
            raise invalid(schema_version=f"must be {SCHEMA_VERSION}, the version that this server reads")
        if header.num_expected_rows < 0:
            raise invalid(num_expected_rows="must not be negative; 0 where it is not known")
        try:
            return await self._uploads.begin(
                run,
                header.request_id,
                num_expected=header.num_expected_rows or -1,
                digest=header.content_digest,
            )
        except KeyError:
            raise not_found(header.parent) from None
        except Conflict as error:
            raise precondition("UPLOAD_REFUSED", str(error), name=header.parent) from None

    async def _read(self, requests: AsyncIterator[Any], buffer: _Buffer, *, first: int) -> Any:
        """Fill `buffer` until the stream ends; its `UploadEnd`, or None where it was left open. Whatever ends this
        closes the buffer, so that what came before is kept."""
        expected = first
        try:
            async for request in requests:
                part = request.WhichOneof("part")
                if part == "end":
                    return request.end
                if part != "chunk":
                    raise invalid(part="must be a chunk or the end: the header stands at the beginning alone")
                await buffer.put(self._checked(request.chunk, expected=expected))
                expected = max(expected, request.chunk.sequence + 1)
            return None
        finally:
            buffer.close()

    def _checked(self, chunk: Any, *, expected: int) -> _Chunk:
        content: bytes = chunk.rows
        if chunk.sequence < 0:
            raise invalid(sequence="counts from 0")
        if chunk.sequence > expected:
            raise _gap(chunk.sequence, expected=expected)
        if len(content) > self._settings.chunk_bytes:
            most = self._settings.chunk_bytes
            raise exhausted("CHUNK_TOO_LARGE", f"a chunk may have {most} bytes; put fewer rows into each")
        if zlib.crc32(content) != chunk.crc32:
            raise Fault(
                Code.ABORTED,
                "CHUNK_DAMAGED",
                "a chunk's CRC-32 does not fit its rows: open the stream again and go on from the durable ones",
                metadata={"sequence": str(chunk.sequence)},
            )
        try:
            num_rows = checked_rows(content)
        except ValueError as error:
            raise invalid(chunk=f"{chunk.sequence}: {error}") from None
        if not num_rows:
            raise invalid(chunk=f"{chunk.sequence}: holds no rows")
        return _Chunk(sequence=chunk.sequence, content=content, num_rows=num_rows, crc=chunk.crc32)

    # --------------------------------------------------------------------------------------- keeping

    async def _keep(self, upload: Upload, chunks: Sequence[_Chunk]) -> Upload:
        """Make `chunks` durable, in one pack; how far the upload is then."""
        pack = await self._store.put(b"".join(chunk.content for chunk in chunks))
        offset = 0
        try:
            for chunk in chunks:
                length = len(chunk.content)
                digest = hashlib.sha256(chunk.content).hexdigest()
                address = Address(pack=pack, offset=offset, length=length, digest=digest)
                offset += length
                await self._uploads.append(
                    upload.upload, chunk.sequence, address=address, num_rows=chunk.num_rows, crc=chunk.crc
                )
                self._telemetry.count(UPLOADED_ROWS, chunk.num_rows)
        except Gap as error:
            raise _gap(chunk.sequence, expected=error.expected) from None
        except Conflict as error:
            raise precondition("UPLOAD_REFUSED", str(error), sequence=str(chunk.sequence)) from None
        return await self._marked(upload)

    async def _marked(self, upload: Upload) -> Upload:
        marked = await self._uploads.mark(upload.upload)
        assert marked is not None, "an upload that was begun is there"
        return marked

    async def _complete(self, upload: Upload, end: Any) -> Upload:
        marked = await self._marked(upload)
        if (marked.num_chunks, marked.num_rows) != (end.num_chunks, end.num_rows):
            raise precondition(
                "UPLOAD_INCOMPLETE",
                f"{marked.num_chunks} chunks with {marked.num_rows} rows are durable, and the end tells of "
                f"{end.num_chunks} with {end.num_rows}: send what is missing",
            )
        try:
            return await self._uploads.complete(upload.upload)
        except Conflict as error:
            raise precondition("UPLOAD_REFUSED", str(error)) from None


class _Buffer:
    """Chunks between a stream and the store: one writer, one reader, bounded in bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._chunks: deque[_Chunk] = deque()
        self._num_bytes = 0
        self._is_closed = False
        self._changed = asyncio.Event()

    async def put(self, chunk: _Chunk) -> None:
        """Waits for room; a chunk that is larger than the buffer has it to itself."""
        while self._chunks and self._num_bytes + len(chunk.content) > self._most_bytes:
            await self._change()
        self._chunks.append(chunk)
        self._num_bytes += len(chunk.content)
        self._changed.set()

    def close(self) -> None:
        """Nothing more comes."""
        self._is_closed = True
        self._changed.set()

    async def take(self, most_bytes: int) -> list[_Chunk]:
        """At least one chunk, and no more than `most_bytes` of several; none once it is closed and empty."""
        while not self._chunks and not self._is_closed:
            await self._change()
        taken: list[_Chunk] = []
        num_bytes = 0
        while self._chunks and (not taken or num_bytes + len(self._chunks[0].content) <= most_bytes):
            taken.append(self._chunks.popleft())
            num_bytes += len(taken[-1].content)
        self._num_bytes -= num_bytes
        self._changed.set()
        return taken

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def message_of(upload: Upload) -> Any:
    """The `Upload` message of a record."""
    return pb.Upload(
        name=format_name(UPLOAD, upload.run, upload.upload),
        next_sequence=upload.num_chunks,
        num_rows=upload.num_rows,
        complete=upload.is_complete,
    )


def _gap(sequence: int, *, expected: int) -> Fault:
    return Fault(
        Code.OUT_OF_RANGE,
        "CHUNK_MISSING",
        f"chunk {sequence} came before chunk {expected}: go on from there",
        metadata={"sequence": str(sequence), "expected": str(expected)},
    )
