"""How records of one kind lie in a dataset: a table's columns, its rows as plain values, and Parquet shards of them.

`example_table` and `pair_table` describe one kind each, `dataset` publishes and reads either through this. A row is a
mapping of plain strings, integers and token ids in the table's column order; digests and checks are over such rows, so
that what is compared is what lies in the files.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from tracemend.kit.ids import canonical
from tracemend.records import Category, Prompt
from tracemend.redaction import Text

R = TypeVar("R")

Row: TypeAlias = Mapping[str, Any]
Content: TypeAlias = Literal["text", "number", "ids"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Generic[R]):
    """One kind of dataset."""

    kind: str
    """As manifests say it."""
    columns: Mapping[str, Content]
    """In the order of the files."""
    row: Callable[[R], dict[str, Any]]
    """A record as a row, with exactly the columns."""
    record: Callable[[Row, str], R]
    """The record of a row, as one of the arm that is named."""
    counted: Mapping[str, str]
    """Columns that the manifest counts rows by, with the word for an empty value."""
    measured: tuple[str, ...]
    """Text columns whose lengths the card gives."""
    about: str
    """What the card says of the rows."""
    meanings: Mapping[str, str]
    """Column, or columns joined by commas, to what it holds."""
    spoken: Callable[[Row], dict[str, Any]]
    """A row in one of TRL's dataset formats, which other trainers read as well: text alone, no further columns."""

    def rows(self, records: Iterable[R]) -> list[dict[str, Any]]:
        """The records as rows, in order."""
        return [self.row(record) for record in records]

    def counts(self, rows: Sequence[Row]) -> dict[str, int]:
        """Rows by what they are counted by, as `state/kept`, `source/star1`, …"""
        found = Counter(f"{name}/{row[name] or empty}" for row in rows for name, empty in self.counted.items())
        return dict(sorted(found.items()))

    def encode(self, rows: Sequence[Row]) -> bytes:
        """One Parquet file (zstd) with the rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"text": pa.string(), "number": pa.int64(), "ids": pa.list_(pa.int64())}
        schema = pa.schema([(name, types[content]) for name, content in self.columns.items()])
        table = pa.table({name: [row[name] for row in rows] for name in self.columns}, schema=schema)
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        return sink.getvalue()


def decode_rows(content: bytes, *, only: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of one Parquet file, or these columns of them."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(content), columns=list(only) if only else None).to_pylist()
    return rows


def digest_of_rows(rows: Iterable[Row]) -> str:
    """Hex SHA-256 over the canonical rows in order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical(row) + b"\n")
    return digest.hexdigest()


def prompt_columns(prompt: Prompt) -> dict[str, str]:
    """What is known of a prompt beside its text and id, as every table has it."""
    return {
        "category": prompt.category.value,
        "source": prompt.source,
        "licence": prompt.licence,
        "split": prompt.split,
        "tags": json.dumps(prompt.tags, sort_keys=True, ensure_ascii=False),
        "reference": prompt.reference.reveal(),
    }


def prompt_of(row: Row, *, text: str) -> Prompt:
    """The prompt of a row whose text is `text`."""
    return Prompt(
        id=row["prompt_id"],
        text=Text(text),
        category=Category(row["category"]),
        source=row["source"],
        licence=row["licence"],
        split=row["split"],
        tags=json.loads(row["tags"]),
        reference=Text(row["reference"]),
    )
