"""A run of scripted models that ends in a second: the pieces that the tests of the embedded pipeline share."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tracemend.embedded.pipeline import Finished, run_pipeline
from tracemend.embedded.progress import Silent
from tracemend.embedded.runfile import RunFile, parse_run_file

TEXT = """\
name: small
models:
  teacher: {engine: "scripted:null_teacher"}
prompts:
  - {source: numbered, count: 40}
  - {source: numbered, count: 10, start: 5000, category: benign}
ingestion:
  filters: {near_duplicates: false, decontamination: false}
target: {model: "null", engine: "scripted:null_target", samples: 2}
judge:
  harm: {name: last_word}
  refusal: {name: last_word}
  correctness: {name: last_word}
arms:
  filter:
    correct: {strategy: filter}
  rewrite:
    correct: {strategy: rewrite, teacher: teacher}
evaluate:
  benchmarks:
    heldout: {prompts: {source: numbered, count: 8, start: 9000}}
    plain: {prompts: {source: numbered, count: 8, start: 19000, category: benign}}
"""


def small(**changes: object) -> RunFile:
    """The run file, with other values at its top level."""
    return parse_run_file(TEXT, name="small.yaml").model_copy(update=changes)


def run_small(folder: Path, *, again: str | None = None, **changes: object) -> Finished:
    """Run it in `folder` to the end."""
    settings = small(**changes)
    return asyncio.run(run_pipeline(settings, folder, cache=folder / "cache", observer=Silent(), again=again))
