"""Source `huggingface`: a dataset folder on this machine, as `save_to_disk` or a repository of data files has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tracemend.ingestion.columns import columns_of
from tracemend.ingestion.readers import rows_of
from tracemend.ingestion.readers.dataset_folder import data_files
from tracemend.ingestion.rows import BadRow, Row, sources
from tracemend.kit.paths import path_of


@sources.register
def huggingface(
    *,
    path: str,
    columns: Mapping[str, str] | None = None,
    category: str = "",
    name: str = "",
    licence: str = "",
    split: str = "train",
    limit: int | None = None,
) -> Iterator[Row | BadRow]:
    """The rows of one `split` of the dataset in the folder `path`; other options as in `jsonl`."""
    folder = path_of(path)
    shape = columns_of(
        name=name or folder.resolve().name, category=category, columns=columns, licence=licence, split=split
    )
    return rows_of(data_files(folder, split=split), columns=shape, limit=limit)
