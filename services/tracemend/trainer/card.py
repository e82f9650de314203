"""The card of a published dataset (README.md): every figure in it is measured on the rows that it describes.

`dataset.export` calls it. It shows no row's text, and what rows say of their source and licence is written so that it
can break neither the metadata header nor a table. Rows of the proving ground are announced as synthetic.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tracemend.records import DatasetManifest
from tracemend.trainer.tables import Row, Table

_ROLES = {"detector": "detector of compliance cues", "verifier": "verifier of what was mended"}
SYNTHETIC_SOURCE = "proving"
"""Source whose rows, and those of sources named `proving-…`, are invented."""


def card_of(manifest: DatasetManifest, rows: Sequence[Row], table: Table[Any]) -> str:
    """Markdown with the metadata header that `datasets` and dataset hubs read."""
    parts = [_header(manifest), f"# Dataset {manifest.id}", ""]
    synthetic = _share_synthetic(rows)
    if synthetic:
        parts += [
            f"> **SYNTHETIC**: {synthetic:.0%} of the rows come from an invented world and say nothing about real"
        ]
        parts += ["> models or real harms.", ""]
    parts += [
        table.about,
        "",
        f"- rows: {manifest.num_rows}, in {len(manifest.shards)} Parquet shards",
        f"- arm: `{manifest.arm}`",
        f"- digest of the canonical rows: `{manifest.digest}`",
        *judge_lines(manifest.judges),
        "",
        *_counts(manifest.counts, manifest.num_rows, groups=tuple(table.counted)),
        *_lengths(rows, table.measured),
        "## Columns",
        "",
        *(f"- `{name}`: {meaning}" for name, meaning in table.meanings.items()),
        "",
    ]
    return "\n".join(parts)


def judge_lines(judges: Mapping[str, str]) -> list[str]:
    """A list item for each role in a run's judging (`DatasetManifest.judges`); those that are no axis come last."""
    roles = sorted(judges, key=lambda role: (role in _ROLES, role))
    return [f"- {_ROLES.get(role, f'judge of {role}')}: `{judges[role]}`" for role in roles]


def _header(manifest: DatasetManifest) -> str:
    licences = sorted(key.removeprefix("licence/") for key in manifest.counts if key.startswith("licence/"))
    return "\n".join(
        [
            "---",
            "configs:",
            "- config_name: default",
            "  data_files:",
            "  - split: train",
            "    path: data/train-*.parquet",
            "license: other",
            f"license_name: {_slug('-'.join(licences))}",
            "tags: [safety, reasoning, alignment]",
            "---",
        ]
    )


def _slug(name: str) -> str:
    """Lower-case letters, digits, dots and dashes that begin and end with a letter or digit: plain in YAML."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "unknown"


def _cell(name: str) -> str:
    """One line of a table cell that no markup begins in."""
    return re.sub(r"([\\`*_\[\]<>|&])", r"\\\1", " ".join(name.split()))


def _share_synthetic(rows: Sequence[Row]) -> float:
    synthetic = sum(row["source"].split("-")[0] == SYNTHETIC_SOURCE for row in rows)
    return synthetic / len(rows) if rows else 0.0


def _counts(counts: Mapping[str, int], num_rows: int, *, groups: Sequence[str]) -> list[str]:
    lines = []
    for group in groups:
        table = {_cell(key.split("/", 1)[1]): number for key, number in counts.items() if key.startswith(f"{group}/")}
        lines += [f"## By {group}", "", f"| {group} | rows | share |", "|---|---|---|"]
        lines += [f"| {name} | {number} | {number / max(num_rows, 1):.1%} |" for name, number in table.items()] + [""]
    cuts = {key.split("/", 1)[1]: number for key, number in counts.items() if key.startswith("cut/")}
    lines += ["## Usable outcomes that were left out", ""]
    return lines + ([f"- {reason}: {number}" for reason, number in sorted(cuts.items())] or ["- none"]) + [""]


def _lengths(rows: Sequence[Row], parts: Sequence[str]) -> list[str]:
    lines = ["## Lengths in characters", "", "| part | median | longest |", "|---|---|---|"]
    for name in parts:
        sizes = [len(row[name]) for row in rows] or [0]
        lines.append(f"| {name} | {statistics.median(sizes):.0f} | {max(sizes)} |")
    return [*lines, ""]
