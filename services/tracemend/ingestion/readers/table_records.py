"""Parquet and Arrow files to records, batch by batch: memory holds one batch of the wanted columns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tracemend.ingestion.columns import Record
from tracemend.ingestion.rows import BadRow
from tracemend.kit.errors import SetupError

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 256


def read_parquet(path: Path, *, source: str) -> Iterator[Record | BadRow]:
    """The records of a Parquet file; `where` counts rows from 0."""
    import pyarrow.parquet as pq

    with _explained(path, "Parquet"), pq.ParquetFile(path) as table:
        yield from _records(path, table.iter_batches(batch_size=_BATCH_ROWS), source)


def read_arrow(path: Path, *, source: str) -> Iterator[Record | BadRow]:
    """The records of an Arrow stream file, as `Dataset.save_to_disk` writes it."""
    import pyarrow as pa

    with _explained(path, "Arrow"), pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        yield from _records(path, iter(stream), source)


def _records(path: Path, batches: Iterator[pa.RecordBatch], source: str) -> Iterator[Record | BadRow]:
    index = 0
    for batch in batches:
        for row in range(batch.num_rows):
            yield _record(batch, row, where=f"{path}[{index}]", source=source)
            index += 1


def _record(batch: pa.RecordBatch, row: int, *, where: str, source: str) -> Record | BadRow:
    try:
        values = {name: batch.column(column)[row].as_py() for column, name in enumerate(batch.schema.names)}
    except UnicodeDecodeError as error:
        detail = f"byte {error.start:,} of a cell is not UTF-8: write the column again as UTF-8 text"
        return BadRow(where=where, source=source, reason="not_utf8", detail=detail)
    except (ValueError, OverflowError) as error:
        detail = f"a cell has no Python value ({type(error).__name__})"
        return BadRow(where=where, source=source, reason="unreadable_cell", detail=detail)
    return Record(where=where, values=values)


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise SetupError(f"{path}: not a readable {what} file: {first_line}") from error
