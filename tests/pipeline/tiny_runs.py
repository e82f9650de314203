"""A run with real weights that ends in seconds: a tiny random model, a scripted teacher, a few optimiser steps."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import yaml
from tests.contract import tiny_models

from tracemend.embedded.pipeline import Finished, run_pipeline
from tracemend.embedded.progress import Observer, Silent
from tracemend.embedded.runfile import RunFile, parse_run_file

ROWS = 12


def document(model: Path, *, arms: dict[str, Any]) -> dict[str, Any]:
    """A run file over `model`. Its samples mean nothing to the judge: every prompt is rewritten by the teacher."""
    return {
        "name": "tiny",
        "models": {"teacher": {"engine": "scripted:null_teacher"}},
        "prompts": [{"source": "numbered", "count": ROWS}],
        "ingestion": {"filters": {"near_duplicates": False, "decontamination": False}},
        "target": {"model": str(model), "reasoning_format": "think", "samples": 1, "sampling": {"max_new_tokens": 8}},
        "judge": {"harm": {"name": "last_word"}, "refusal": {"name": "last_word"}},
        "arms": arms,
    }


def arm(**train: Any) -> dict[str, Any]:
    """An arm that is trained on a rewrite of every prompt."""
    return {
        "select": {"rule": "all"},
        "correct": {"strategy": "rewrite", "teacher": "teacher", "options": {"when_safe": "rewrite"}},
        "assemble": {"benign_share": 0},
        "train": {"max_length": "auto", "batch_size": 4, "epochs": 1, "learning_rate": 1e-3, **train},
    }


def build_model(folder: Path) -> Path:
    return tiny_models.build(folder, context=1024)


def parsed(written: dict[str, Any]) -> RunFile:
    return parse_run_file(yaml.safe_dump(written), name="tiny.yaml")


def run_tiny(written: dict[str, Any], out: Path, *, observer: Observer | None = None) -> Finished:
    """Run it in `out` to the end."""
    settings = parsed(written)
    return asyncio.run(run_pipeline(settings, out, cache=out / "cache", observer=observer or Silent()))
