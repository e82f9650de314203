"""Datasets: supervised rows as Parquet shards in the store, a manifest, and a folder that `datasets` loads.

The coordinator publishes what `assembly` chose; training jobs and users read it back. A manifest's digest is over the
canonical rows (what is said, to whom, from where, by what strategy) and neither over the files' bytes nor over runs,
times or costs, so the same plan has the same digest wherever it ran. Reading checks rows against the manifest: a
missing, changed or reordered row is an error and never a smaller dataset.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tracemend.kit.errors import SetupError
from tracemend.kit.ids import canonical, make_id
from tracemend.kit.ports import Store
from tracemend.records import Category, DatasetManifest, Example, OutcomeState, Prompt, Unit
from tracemend.redaction import Text
from tracemend.trainer.assembly import Assembled
from tracemend.trainer.card import card_of

MANIFEST = "manifest.json"
_SHARDS = "data"


async def publish(
    store: Store, assembled: Assembled, *, arm: str, judges: Mapping[str, str], rows_per_shard: int = 50_000
) -> DatasetManifest:
    """Store the rows as shards and describe them.

    Args:
        store: Where the shards go, as blobs.
        assembled: The rows, in order, and what assembly cut.
        arm: Whose dataset it is.
        judges: Axis to the identity of the judge whose verdicts chose the rows.
        rows_per_shard: Rows in a Parquet file, which is one blob.
    """
    examples = assembled.examples
    shards = [await store.put(encode_shard(part)) for part in _parts(examples, rows_per_shard)]
    digest = digest_of_rows(examples)
    return DatasetManifest(
        id=make_id("dataset", digest, sorted(judges.items())),
        arm=arm,
        kind="examples",
        digest=digest,
        num_rows=len(examples),
        shards=tuple(shards),
        counts={**count_rows(examples), **{f"cut/{reason}": number for reason, number in assembled.cuts.items()}},
        judges=dict(judges),
    )


async def export(store: Store, manifest: DatasetManifest, folder: Path) -> Path:
    """Write the dataset as a folder for `datasets.load_dataset`: shards, card and manifest. Replaces `folder`.

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
    examples = read_examples(temporary)
    (temporary / "README.md").write_text(card_of(manifest, examples), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
    return folder


async def load(store: Store, manifest: DatasetManifest) -> list[Example]:
    """The manifest's rows from the store.

    Raises:
        SetupError: The shards do not hold the manifest's rows.
    """
    examples = [row for blob in manifest.shards for row in decode_shard(await store.get(blob), arm=manifest.arm)]
    _check(examples, manifest, where="the store")
    return examples


def read_manifest(folder: Path) -> DatasetManifest:
    """The manifest of an exported dataset; a `SetupError` if the folder has none."""
    try:
        fields = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return DatasetManifest(**{**fields, "shards": tuple(fields["shards"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{folder} is no exported dataset ({MANIFEST}: {error}); export it again") from error


def read_examples(folder: Path) -> list[Example]:
    """The rows of an exported dataset, in order, checked against its manifest.

    Raises:
        SetupError: The folder is no dataset, or its rows are not the manifest's.
    """
    manifest = read_manifest(folder)
    files = sorted((folder / _SHARDS).glob("*.parquet"))
    examples = [row for file in files for row in decode_shard(file.read_bytes(), arm=manifest.arm)]
    _check(examples, manifest, where=str(folder))
    return examples


def encode_shard(examples: Sequence[Example]) -> bytes:
    """One Parquet file (zstd) with the examples, one row each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_row(example) for example in examples]
    names = list(_row_types())
    schema = pa.schema([(name, pa.int64() if kind is int else pa.string()) for name, kind in _row_types().items()])
    table = pa.table({name: [row[name] for row in rows] for name in names}, schema=schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def decode_shard(content: bytes, *, arm: str) -> Iterator[Example]:
    """The examples of one Parquet file, as rows of `arm`."""
    import pyarrow.parquet as pq

    for row in pq.read_table(io.BytesIO(content)).to_pylist():
        yield _example(row, arm=arm)


def digest_of_rows(examples: Sequence[Example]) -> str:
    """Hex SHA-256 over the canonical rows in order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(canonical(_row(example)) + b"\n")
    return digest.hexdigest()


def count_rows(examples: Sequence[Example]) -> dict[str, int]:
    """Rows by state, category, source, licence and strategy, as `state/kept`, `source/star1`, …"""
    counts: Counter[str] = Counter()
    for example in examples:
        prompt = example.prompt
        counts.update(
            (
                f"state/{example.state.value}",
                f"category/{prompt.category.value}",
                f"source/{prompt.source or 'unknown'}",
                f"licence/{prompt.licence or 'unknown'}",
                f"strategy/{example.strategy or 'own'}",
            )
        )
    return dict(sorted(counts.items()))


def _check(examples: Sequence[Example], manifest: DatasetManifest, *, where: str) -> None:
    if len(examples) != manifest.num_rows or digest_of_rows(examples) != manifest.digest:
        raise SetupError(
            f"the rows in {where} are not those of dataset {manifest.id} ({len(examples)} rows, the manifest says "
            f"{manifest.num_rows}): a shard is missing or changed; publish the dataset again"
        )


def _parts(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    for start in range(0, len(examples), size):
        yield examples[start : start + size]


def _row(example: Example) -> dict[str, Any]:
    prompt, unit = example.prompt, example.unit
    return {
        "id": example.id,
        "prompt": prompt.text.reveal(),
        "reasoning": example.reasoning.reveal(),
        "answer": example.answer.reveal(),
        "category": prompt.category.value,
        "state": example.state.value,
        "strategy": example.strategy,
        "source": prompt.source,
        "licence": prompt.licence,
        "split": prompt.split,
        "tags": json.dumps(prompt.tags, sort_keys=True, ensure_ascii=False),
        "reference": prompt.reference.reveal(),
        "original_reasoning": example.original_reasoning.reveal(),
        "original_answer": example.original_answer.reveal(),
        "prompt_id": prompt.id,
        "sample": unit.sample,
        "variant": unit.variant,
    }


def _row_types() -> dict[str, type]:
    empty = Prompt(id="", text=Text(""), category=Category.BENIGN)
    example = Example(
        id="",
        unit=Unit(arm="", prompt=""),
        prompt=empty,
        reasoning=Text(""),
        answer=Text(""),
        state=OutcomeState.KEPT,
        strategy="",
    )
    return {name: type(value) for name, value in _row(example).items()}


def _example(row: Mapping[str, Any], *, arm: str) -> Example:
    prompt = Prompt(
        id=row["prompt_id"],
        text=Text(row["prompt"]),
        category=Category(row["category"]),
        source=row["source"],
        licence=row["licence"],
        split=row["split"],
        tags=json.loads(row["tags"]),
        reference=Text(row["reference"]),
    )
    return Example(
        id=row["id"],
        unit=Unit(arm=arm, prompt=row["prompt_id"], sample=row["sample"], variant=row["variant"]),
        prompt=prompt,
        reasoning=Text(row["reasoning"]),
        answer=Text(row["answer"]),
        state=OutcomeState(row["state"]),
        strategy=row["strategy"],
        original_reasoning=Text(row["original_reasoning"]),
        original_answer=Text(row["original_answer"]),
    )
