"""Source `parquet`: Parquet files, read in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tracemend.ingestion.columns import columns_of
from tracemend.ingestion.files import find
from tracemend.ingestion.readers import rows_of, table_records
from tracemend.ingestion.rows import BadRow, Row, sources


@sources.register
def parquet(
    *,
    path: str | Sequence[str],
    columns: Mapping[str, str] | None = None,
    category: str = "",
    name: str = "",
    licence: str = "",
    split: str = "train",
    limit: int | None = None,
) -> Iterator[Row | BadRow]:
    """The rows of the files that `path` names: a path, a glob or a list of these; options as in `jsonl`."""
    shape = columns_of(name=name, category=category, columns=columns, licence=licence, split=split)
    files = find(path, suffixes=(".parquet",))
    return rows_of(files, columns=shape, reader=table_records.read_parquet, limit=limit)
