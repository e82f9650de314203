"""Datasets: rows as Parquet shards in the store, a manifest, and a folder that `datasets` loads.

The coordinator publishes what `assembly` chose; training jobs and users read it back. A manifest's digest is over the
canonical rows (what is said, to whom, from where, by what strategy) and neither over the files' bytes nor over runs,
times or costs, so the same plan has the same digest wherever it ran. Reading checks rows against the manifest: a
missing, changed or reordered row is an error and never a smaller dataset.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from tracemend.kit.errors import SetupError
from tracemend.kit.ids import make_id
from tracemend.kit.ports import Store
from tracemend.records import DatasetManifest, Example
from tracemend.trainer.assembly import Assembled
from tracemend.trainer.card import card_of
from tracemend.trainer.example_table import EXAMPLES
from tracemend.trainer.pair_table import PAIRS
from tracemend.trainer.tables import Table, decode_rows, digest_of_rows

R = TypeVar("R")

MANIFEST = "manifest.json"
TABLES: dict[str, Table[Any]] = {table.kind: table for table in (EXAMPLES, PAIRS)}
LINES = "trl.jsonl"
_SHARDS = "data"


async def publish(
    store: Store,
    assembled: Assembled[R],
    table: Table[R],
    *,
    arm: str,
    judges: Mapping[str, str],
    rows_per_shard: int = 50_000,
) -> DatasetManifest:
    """Store the rows as shards and describe them.

    Args:
        store: Where the shards go, as blobs.
        assembled: The rows, in order, and what assembly cut.
        table: How rows of their kind are written.
        arm: Whose dataset it is.
        judges: Axis to the identity of the judge whose verdicts chose the rows.
        rows_per_shard: Rows in a Parquet file, which is one blob.
    """
    rows = table.rows(assembled.rows)
    parts = [rows[start : start + rows_per_shard] for start in range(0, len(rows), rows_per_shard)]
    shards = [await store.put(table.encode(part)) for part in parts]
    digest = digest_of_rows(rows)
    return DatasetManifest(
        id=make_id("dataset", digest, sorted(judges.items())),
        arm=arm,
        kind=table.kind,
        digest=digest,
        num_rows=len(rows),
        shards=tuple(shards),
        counts={**table.counts(rows), **{f"cut/{reason}": number for reason, number in assembled.cuts.items()}},
        judges=dict(judges),
    )


async def export(store: Store, manifest: DatasetManifest, folder: Path, *, spoken: bool = False) -> Path:
    """Write the dataset as a folder for `datasets.load_dataset`: shards, card and manifest. Replaces `folder`.

    With `spoken`, the same rows lie beside the shards as `trl.jsonl`, in TRL's format and with its columns alone: its
    trainers make ids of their own, under the names that the shards' columns have.

    Raises:
        SetupError: The shards do not hold the manifest's rows.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / _SHARDS).mkdir(parents=True)
    for number, blob in enumerate(manifest.shards):
        name = f"train-{number:05d}-of-{len(manifest.shards):05d}.parquet"
        (temporary / _SHARDS / name).write_bytes(await store.get(blob))
    (temporary / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1, sort_keys=True), encoding="utf-8")
    rows = read_rows(temporary)
    table = TABLES[manifest.kind]
    card = card_of(manifest, rows, table)
    if spoken:
        _write_lines(temporary / LINES, map(table.spoken, rows))
        card += f"\n`{LINES}` holds the same rows in TRL's format, text alone.\n"
    (temporary / "README.md").write_text(card, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
    return folder


def read_manifest(folder: Path) -> DatasetManifest:
    """The manifest of an exported dataset; a `SetupError` if the folder has none."""
    try:
        fields = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest = DatasetManifest(**{**fields, "shards": tuple(fields["shards"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{folder} is no exported dataset ({MANIFEST}: {error}); export it again") from error
    if manifest.kind not in TABLES:
        raise SetupError(f"{folder} holds '{manifest.kind}', which another release wrote; export it again")
    return manifest


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of an exported dataset of any kind, as plain values in order, checked against its manifest.

    Raises:
        SetupError: The folder is no dataset, or its rows are not the manifest's.
    """
    manifest = read_manifest(folder)
    files = sorted((folder / _SHARDS).glob("*.parquet"))
    rows = [row for file in files for row in decode_rows(file.read_bytes())]
    _check(rows, manifest, where=str(folder))
    return rows


def read_examples(folder: Path) -> list[Example]:
    """The supervised rows of an exported dataset; raises what `read_records` raises."""
    return read_records(folder, EXAMPLES)


def read_records(folder: Path, table: Table[R]) -> list[R]:
    """The rows of an exported dataset as records, in order.

    Raises:
        SetupError: The folder is no dataset of this kind, or its rows are not the manifest's.
    """
    manifest = read_manifest(folder)
    if manifest.kind != table.kind:
        raise SetupError(
            f"{folder} holds {manifest.kind}, and {table.kind} are wanted: set assemble.kind and train.algorithm of "
            f"arm '{manifest.arm}' to what belongs together"
        )
    return [table.record(row, manifest.arm) for row in read_rows(folder)]


async def prompts_in(store: Store, shard: str) -> set[str]:
    """Ids of the prompts that the rows of a stored shard, of any kind, are about."""
    return {row["prompt_id"] for row in decode_rows(await store.get(shard), only=("prompt_id",))}


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _check(rows: Sequence[Mapping[str, Any]], manifest: DatasetManifest, *, where: str) -> None:
    if len(rows) != manifest.num_rows or digest_of_rows(rows) != manifest.digest:
        raise SetupError(
            f"the rows in {where} are not those of dataset {manifest.id} ({len(rows)} rows, the manifest says "
            f"{manifest.num_rows}): a shard is missing or changed; publish the dataset again"
        )
