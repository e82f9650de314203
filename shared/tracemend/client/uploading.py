"""One upload of prompts, over as many streams as it takes.

Rows are cut into chunks ahead of the network, into a window of what is not yet known to be durable. A stream sends from
the window, the server's marks empty it, and a stream that was cut off is followed by another one, which goes on where
the server says. Invariants: a chunk leaves the window only when it is durable; the window is bounded in bytes; the
iterable is read once, however often the network fails.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb
from tracemend.client.connection import Connection, delays
from tracemend.client.errors import CallError
from tracemend.client.rows import AnyRow, Chunk, chunks_of

_WINDOW_BYTES = 16 * 2**20
_RESUMABLE = frozenset({"CHUNK_DAMAGED", "CHUNK_MISSING"})
"""What another stream mends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an upload is."""

    num_rows: int
    """Durable on the server."""
    num_chunks: int
    is_complete: bool


class Upload:
    """Sends rows once. `header` is the `UploadHeader` that every stream begins with."""

    def __init__(
        self,
        connection: Connection,
        header: Any,
        rows: Iterable[AnyRow] | AsyncIterable[AnyRow],
        *,
        on_progress: Callable[[Progress], None] | None = None,
        window_bytes: int = _WINDOW_BYTES,
    ) -> None:
        self._connection = connection
        self._header = header
        self._rows = rows
        self._on_progress = on_progress
        self._window_bytes = window_bytes
        self._window: deque[Chunk] = deque()
        self._num_waiting_bytes = 0
        self._mark = 0
        self._is_complete = False
        """Whether the server has the upload's end; rows that go beyond it are counted and sent no more."""
        self._end: Any = None
        self._change = asyncio.Event()

    async def run(self) -> Progress:
        """Send everything; `CallError` once the server refuses, or stays out of reach for longer than the patience.
        An error of the iterable is raised as it is, and leaves the upload open."""
        cutting, sending = asyncio.create_task(self._cut()), asyncio.create_task(self._send())
        try:
            await asyncio.wait({cutting, sending}, return_when=asyncio.FIRST_COMPLETED)
            if cutting.done():
                cutting.result()
            sent = await sending
            await cutting
            if (sent.num_chunks, sent.num_rows) != (self._end.num_chunks, self._end.num_rows):
                message = f"the upload is complete with {sent.num_rows:,} rows, and these are {self._end.num_rows:,}"
                raise CallError("FAILED_PRECONDITION", message)
            return sent
        finally:
            for task in (cutting, sending):
                task.cancel()
            await asyncio.gather(cutting, sending, return_exceptions=True)

    # --------------------------------------------------------------------------------------- cutting

    async def _cut(self) -> None:
        """Fill the window to the end of the rows."""
        num_chunks = num_rows = 0
        async for chunk in chunks_of(self._rows):
            num_chunks, num_rows = num_chunks + 1, num_rows + chunk.num_rows
            while self._num_waiting_bytes >= self._window_bytes and not self._is_complete:
                await self._changed()
            if chunk.sequence >= self._mark and not self._is_complete:
                self._window.append(chunk)
                self._num_waiting_bytes += len(chunk.content)
                self._change.set()
        self._end = pb.UploadEnd(num_chunks=num_chunks, num_rows=num_rows)
        self._change.set()

    # --------------------------------------------------------------------------------------- sending

    async def _send(self) -> Progress:
        """Stream after stream until the upload is complete."""
        waits, before = delays(self._connection.patience_s), -1
        while True:
            try:
                return await self._stream()
            except CallError as error:
                failed = error
            if self._mark > before:  # patience is for standing still
                waits, before = delays(self._connection.patience_s), self._mark
            if failed.reason in _RESUMABLE:
                failed = CallError("UNAVAILABLE", failed.message)
            await self._connection.pause(failed, waits)

    async def _stream(self) -> Progress:
        """One stream, to its end; `CallError` if that is not the upload's."""
        import grpc

        call = self._connection.stream("UploadPrompts")
        writing: asyncio.Task[None] | None = None
        try:
            await call.write(pb.UploadPromptsRequest(header=self._header))
            while (response := await call.read()) is not grpc.aio.EOF:
                progress = self._acknowledge(response.upload)
                if progress.is_complete:
                    return progress
                writing = writing or asyncio.create_task(self._write(call, self._mark))
            raise CallError("UNAVAILABLE", "the server ended the upload before it was complete")
        except grpc.aio.AioRpcError as error:
            raise self._connection.failure(error) from None
        except asyncio.InvalidStateError:  # a write into a stream that has ended: its status says why
            raise CallError((await call.code()).name, await call.details() or "") from None
        finally:
            call.cancel()
            if writing is not None:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, call: Any, sequence: int) -> None:
        """Everything from chunk `sequence` on. Errors of the stream are the reader's to tell."""
        while True:
            sequence = max(sequence, self._mark)
            if self._window and sequence <= self._window[-1].sequence:
                chunk = self._window[sequence - self._window[0].sequence]
                await call.write(chunk.message())
                sequence += 1
            elif self._end is not None:
                await call.write(pb.UploadPromptsRequest(end=self._end))
                await call.done_writing()
                return
            else:
                await self._changed()

    def _acknowledge(self, upload: Any) -> Progress:
        """Drop what is durable from the window."""
        self._mark = max(self._mark, upload.next_sequence)
        self._is_complete = upload.complete
        while self._window and self._window[0].sequence < self._mark:
            self._num_waiting_bytes -= len(self._window.popleft().content)
        self._change.set()
        progress = Progress(num_rows=upload.num_rows, num_chunks=upload.next_sequence, is_complete=upload.complete)
        if self._on_progress is not None:
            self._on_progress(progress)
        return progress

    async def _changed(self) -> None:
        self._change.clear()
        await self._change.wait()
