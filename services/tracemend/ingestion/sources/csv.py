"""Source `csv`: CSV files with a header line, UTF-8 with or without byte-order mark, plain or gzipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from tracemend.ingestion.columns import columns_of
from tracemend.ingestion.files import find
from tracemend.ingestion.readers import csv_records, rows_of
from tracemend.ingestion.rows import BadRow, Row, sources
from tracemend.kit.errors import SetupError


@sources.register
def csv(
    *,
    path: str | Sequence[str],
    columns: Mapping[str, str] | None = None,
    category: str = "",
    name: str = "",
    licence: str = "",
    split: str = "train",
    delimiter: str = ",",
    limit: int | None = None,
) -> Iterator[Row | BadRow]:
    """The rows of the files that `path` names: a path, a glob or a list of these; options as in `jsonl`, and the
    `delimiter` between cells (a tab for TSV)."""
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise SetupError("`delimiter` must be one character, for example a comma, a semicolon or a tab")
    shape = columns_of(name=name, category=category, columns=columns, licence=licence, split=split)
    files = find(path, suffixes=(".csv",))
    return rows_of(files, columns=shape, reader=partial(csv_records.read, delimiter=delimiter), limit=limit)
