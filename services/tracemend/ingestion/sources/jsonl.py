"""Source `jsonl`: JSON Lines and JSON arrays (`.jsonl`, `.json`, either also `.gz`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tracemend.ingestion.columns import columns_of
from tracemend.ingestion.files import find
from tracemend.ingestion.readers import json_records, rows_of
from tracemend.ingestion.rows import BadRow, Row, sources


@sources.register
def jsonl(
    *,
    path: str | Sequence[str],
    columns: Mapping[str, str] | None = None,
    category: str = "",
    name: str = "",
    licence: str = "",
    split: str = "train",
    limit: int | None = None,
) -> Iterator[Row | BadRow]:
    """The rows of the files that `path` names: a path, a glob or a list of these.

    `columns` maps text, category, reference, licence, split and tags to columns; `category` says what prompts are for
    that do not say it themselves; `name` is the set's (else the file's) name; `limit` counts rows read.
    """
    shape = columns_of(name=name, category=category, columns=columns, licence=licence, split=split)
    files = find(path, suffixes=(".jsonl", ".json"))
    return rows_of(files, columns=shape, reader=json_records.read, limit=limit)
