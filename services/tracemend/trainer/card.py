"""The card of a published dataset (README.md): every figure in it is measured on the rows that it describes.

`dataset.export` calls it. It shows no row's text, and what rows say of their source and licence is written so that it
can break neither the metadata header nor a table. Rows of the proving ground are announced as synthetic.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence

from tracemend.records import DatasetManifest, Example

SYNTHETIC_SOURCE = "proving"
"""Source whose rows, and those of sources named `proving-…`, are invented."""

_COLUMNS = {
    "prompt": "what the user asks",
    "reasoning": "the trace to train on, without its tags",
    "answer": "the answer that follows it",
    "state": "`kept`: the model's own verified sample; `corrected`: written by a strong model, and judged afterwards",
    "strategy": "what wrote the row anew; empty for the model's own samples",
    "original_reasoning, original_answer": "what the model itself had written in place of a new row; may be harmful",
    "category, source, licence, split, tags, reference": "what is known of the prompt",
    "id, prompt_id, sample, variant": "identity of the row",
}


def card_of(manifest: DatasetManifest, examples: Sequence[Example]) -> str:
    """Markdown with the metadata header that `datasets` and dataset hubs read."""
    parts = [_header(manifest), f"# Dataset {manifest.id}", ""]
    synthetic = _share_synthetic(examples)
    if synthetic:
        parts += [
            f"> **SYNTHETIC**: {synthetic:.0%} of the rows come from an invented world and say nothing about real"
        ]
        parts += ["> models or real harms.", ""]
    parts += [
        "Safety training rows for a reasoning model: prompts, reasoning and answers. A judge found each row harmless",
        "where its category is harmful, complied with where it is benign or a lookalike, and correct where it is",
        "reasoning; the last two are judged by the answer alone. Prompts may be offensive, and `original_*` columns",
        "may hold harmful text. Licences differ by row and are those of the prompts' sources.",
        "",
        f"- rows: {manifest.num_rows}, in {len(manifest.shards)} Parquet shards",
        f"- arm: `{manifest.arm}`",
        f"- digest of the canonical rows: `{manifest.digest}`",
        *(f"- judge of {axis}: `{judge}`" for axis, judge in sorted(manifest.judges.items())),
        "",
        *_counts(manifest.counts, manifest.num_rows),
        *_lengths(examples),
        "## Columns",
        "",
        *(f"- `{name}`: {meaning}" for name, meaning in _COLUMNS.items()),
        "",
    ]
    return "\n".join(parts)


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


def _share_synthetic(examples: Sequence[Example]) -> float:
    synthetic = sum(example.prompt.source.split("-")[0] == SYNTHETIC_SOURCE for example in examples)
    return synthetic / len(examples) if examples else 0.0


def _counts(counts: Mapping[str, int], num_rows: int) -> list[str]:
    lines = []
    for group in ("state", "strategy", "category", "source", "licence"):
        table = {_cell(key.split("/", 1)[1]): number for key, number in counts.items() if key.startswith(f"{group}/")}
        lines += [f"## By {group}", "", f"| {group} | rows | share |", "|---|---|---|"]
        lines += [f"| {name} | {number} | {number / max(num_rows, 1):.1%} |" for name, number in table.items()] + [""]
    cuts = {key.split("/", 1)[1]: number for key, number in counts.items() if key.startswith("cut/")}
    lines += ["## Usable outcomes that were left out", ""]
    return lines + ([f"- {reason}: {number}" for reason, number in sorted(cuts.items())] or ["- none"]) + [""]


def _lengths(examples: Sequence[Example]) -> list[str]:
    lines = ["## Lengths in characters", "", "| part | median | longest |", "|---|---|---|"]
    for name, texts in (
        ("prompt", [example.prompt.text for example in examples]),
        ("reasoning", [example.reasoning for example in examples]),
        ("answer", [example.answer for example in examples]),
    ):
        sizes = [len(text) for text in texts] or [0]
        lines.append(f"| {name} | {statistics.median(sizes):.0f} | {max(sizes)} |")
    return [*lines, ""]
