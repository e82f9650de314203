"""Prompts on their way up: what callers give, and the numbered chunks that it becomes.

Equal rows give equal chunks wherever they are cut again, so that an upload which another process began can be gone on
with. A row that cannot travel (half a surrogate pair, larger than a chunk may be) is sent as one that could not be
read, with its reason: it counts in the run's books and no other row is held up by it.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb
from tracemend.api.records.v1 import records_pb2
from tracemend.records import Category, Prompt
from tracemend.redaction import Text

CHUNK_ROWS = 256
CHUNK_BYTES = 2**20
_CHUNKS_PER_HOP = 8
"""Made by one hop to a thread."""
_CATEGORIES = {category: getattr(records_pb2, f"CATEGORY_{category.name}") for category in Category}


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRow:
    """One prompt to upload. Plain strings become what they mean: `text="…"`, `category="harmful"`."""

    text: Text
    category: Category
    source: str = ""
    where: str = ""
    """Where it stands in its source, for messages: `file.csv:12`."""
    licence: str = ""
    split: str = "train"
    tags: Mapping[str, str] = field(default_factory=dict)
    reference: Text = Text("")
    """The expected answer of a reasoning task."""

    def __post_init__(self) -> None:
        # `str()` of a `Text` is its digest, and so would be a `Text` made of one.
        object.__setattr__(self, "text", Text(str.__str__(self.text)))
        object.__setattr__(self, "reference", Text(str.__str__(self.reference)))
        object.__setattr__(self, "category", Category(self.category))


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRow:
    """A row that its source could not give: it counts as refused, for `reason`."""

    where: str
    source: str
    reason: str
    detail: str = ""


AnyRow: TypeAlias = PromptRow | UnreadableRow | Prompt | Mapping[str, Any]
"""What callers may give; a mapping has the fields of `PromptRow` as keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Encoded rows with their place in the upload."""

    sequence: int
    content: bytes
    num_rows: int

    def message(self) -> Any:
        """The request that carries it."""
        chunk = pb.UploadChunk(sequence=self.sequence, rows=self.content, crc32=zlib.crc32(self.content))
        return pb.UploadPromptsRequest(chunk=chunk)


async def chunks_of(rows: Iterable[AnyRow] | AsyncIterable[AnyRow]) -> AsyncIterator[Chunk]:
    """The chunks of `rows`, cut and encoded beside the event loop where `rows` is a plain iterable."""
    if isinstance(rows, AsyncIterable):
        cutter = _Cutter()
        async for row in rows:
            for chunk in cutter.add(row):
                yield chunk
        for chunk in cutter.rest():
            yield chunk
        return
    cut = _cut(rows)
    while made := await asyncio.to_thread(lambda: list(islice(cut, _CHUNKS_PER_HOP))):
        for chunk in made:
            yield chunk


def _cut(rows: Iterable[AnyRow]) -> Iterator[Chunk]:
    cutter = _Cutter()
    for row in rows:
        yield from cutter.add(row)
    yield from cutter.rest()


class _Cutter:
    """Collects rows until a chunk is full."""

    def __init__(self) -> None:
        self._sequence = 0
        self._rows: list[Any] = []
        self._num_bytes = 0

    def add(self, row: AnyRow) -> Iterator[Chunk]:
        """The chunk that was full before `row`, if it was."""
        message = _message(row)
        num_bytes = message.ByteSize()
        if self._rows and (len(self._rows) == CHUNK_ROWS or self._num_bytes + num_bytes > CHUNK_BYTES):
            yield from self.rest()
        self._rows.append(message)
        self._num_bytes += num_bytes

    def rest(self) -> Iterator[Chunk]:
        """What has been collected."""
        if not self._rows:
            return
        content = pb.PromptRows(rows=self._rows).SerializeToString(deterministic=True)
        yield Chunk(sequence=self._sequence, content=content, num_rows=len(self._rows))
        self._sequence, self._rows, self._num_bytes = self._sequence + 1, [], 0


def _message(row: AnyRow) -> Any:
    if isinstance(row, UnreadableRow):
        return _refused(row.where, row.source, row.reason, row.detail)
    if isinstance(row, Mapping):
        row = PromptRow(**row)
    where = row.where if isinstance(row, PromptRow) else row.id
    try:
        message = pb.PromptRow(
            text=row.text.reveal(),
            category=_CATEGORIES[row.category],
            source=_named(row.source),
            where=_named(where),
            licence=row.licence,
            split=row.split,
            tags=row.tags,
            reference=row.reference.reveal(),
        )
    except (UnicodeEncodeError, ValueError):  # the cause is dropped: it carries the text
        return _unfit(row, where, "bad_unicode", "half a surrogate pair: write it as UTF-8 text")
    if message.ByteSize() > CHUNK_BYTES:
        return _unfit(row, where, "too_long", f"{message.ByteSize():,} bytes; an upload takes {CHUNK_BYTES:,} per row")
    return message


def _unfit(row: PromptRow | Prompt, where: str, reason: str, detail: str) -> Any:
    return _refused(where, row.source, reason, detail)


def _refused(where: str, source: str, reason: str, detail: str) -> Any:
    return pb.PromptRow(where=_named(where), source=_named(source), reason=reason, detail=_named(detail))


def _named(words: str) -> str:
    """What names a place: the bytes of a file's name that are no text become question marks."""
    return words.encode("utf-8", "replace").decode()
