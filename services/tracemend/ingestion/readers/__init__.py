"""Files to rows: one reader per format, each a generator over one file, lazily and in file order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from tracemend.ingestion.columns import Columns, Record
from tracemend.ingestion.readers import csv_records, json_records, table_records
from tracemend.ingestion.rows import BadRow, Row
from tracemend.kit.errors import SetupError

Reader: TypeAlias = Callable[..., Iterator[Record | BadRow]]
"""`reader(path, *, source)`: the records of one file; `source` names the set in bad rows."""


def rows_of(
    files: Sequence[Path], *, columns: Columns, reader: Reader | None = None, limit: int | None = None
) -> Iterator[Row | BadRow]:
    """The rows of `files`, one file after the other, each by `reader` or by the reader of its format.

    `limit` counts rows read, good and bad, over all files. Where `columns` names no source, each file's name is one.
    """
    if limit is not None and limit < 1:
        raise SetupError(f"`limit` must be at least 1, not {limit}: leave it out to read everything")
    return islice((row for file in files for row in _rows(file, columns, reader or reader_of(file))), limit)


def reader_of(path: Path) -> Reader:
    """The reader for a file's name."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        return table_records.read_parquet
    if name.endswith(".arrow"):
        return table_records.read_arrow
    return csv_records.read if name.endswith(".csv") else json_records.read


def _rows(path: Path, columns: Columns, reader: Reader) -> Iterator[Row | BadRow]:
    named = columns if columns.source else replace(columns, source=path.name)
    return named.rows(reader(path, source=named.source), path=path)
