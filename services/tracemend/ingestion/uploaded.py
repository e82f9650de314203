"""Uploaded chunks and the rows in them.

The servicer checks chunks with it before they are kept; whoever seals a run reads them back with it, in the order in
which the run's uploads began. A row that could not be read where it was uploaded travels as such, so that the run's
books say the same of it as if the file had been read here.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from google.protobuf.message import DecodeError

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb
from tracemend.api.records.v1 import records_pb2
from tracemend.ingestion.rows import BadRow, Row
from tracemend.kit.errors import CorruptBlob
from tracemend.kit.ports import Store
from tracemend.kit.server_ports import Uploads
from tracemend.records import Category
from tracemend.redaction import Text

SCHEMA_VERSION = 1
"""Of the chunks' content."""
UPLOADED = "upload"
"""The source of rows that do not say theirs."""
_CATEGORIES = {getattr(records_pb2, f"CATEGORY_{category.name}"): category for category in Category}


def checked_rows(content: bytes) -> int:
    """The number of rows in a chunk; `ValueError`, which says what is wrong without a row's words, if it is no good."""
    rows = _parse(content).rows
    for index, row in enumerate(rows):
        if not row.reason and row.category not in _CATEGORIES:
            raise ValueError(f"rows[{index}].category: must be harmful, benign, lookalike or reasoning")
    return len(rows)


def rows_of(content: bytes) -> Iterator[Row | BadRow]:
    """The rows in a chunk that was checked when it came."""
    return (_row(row) for row in _parse(content).rows)


async def uploaded_rows(uploads: Uploads, store: Store, run: str) -> AsyncIterator[Row | BadRow]:
    """All rows of a run's complete uploads, in order; `CorruptBlob` where a chunk is not what was uploaded."""
    async for chunk in uploads.chunks(run):
        address = chunk.address
        content = await store.get_range(address.pack, offset=address.offset, length=address.length)
        rows = list(rows_of(verified(content, digest=address.digest, pack=address.pack)))
        if len(rows) != chunk.num_rows:
            raise CorruptBlob(f"chunk {chunk.sequence} of upload {chunk.upload} no longer holds what was uploaded")
        for row in rows:
            yield row


def verified(content: bytes, *, digest: str, pack: str) -> bytes:
    """`content`; `CorruptBlob` unless its SHA-256 is `digest`."""
    if hashlib.sha256(content).hexdigest() != digest:
        raise CorruptBlob(f"blob {pack} no longer holds the rows that were uploaded; restore it from a copy")
    return content


def _parse(content: bytes) -> Any:
    try:
        return pb.PromptRows.FromString(content)
    except DecodeError:
        raise ValueError("rows: is no encoded PromptRows") from None


def _row(row: Any) -> Row | BadRow:
    source = row.source or UPLOADED
    if row.reason:
        return BadRow(where=row.where, source=source, reason=row.reason, detail=row.detail)
    return Row(
        text=Text(row.text),
        category=_CATEGORIES[row.category],
        source=source,
        where=row.where,
        licence=row.licence,
        split=row.split or "train",
        tags=dict(row.tags),
        reference=Text(row.reference),
    )
