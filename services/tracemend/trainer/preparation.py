"""What is trained on: a dataset's rows, rendered, held against what is served, fitted, and put in their order.

`training` calls it; no weights are loaded. The kind of rows is the algorithm's, and a dataset of the other kind is a
mistake in the run file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemend.kit.errors import SetupError
from tracemend.trainer.algorithm import Algorithm
from tracemend.trainer.dataset import read_examples, read_manifest
from tracemend.trainer.fidelity import ModelLimits, Objection, require_fidelity
from tracemend.trainer.pair_dataset import read_served_pairs
from tracemend.trainer.pair_fidelity import max_pair_length, require_pair_fidelity
from tracemend.trainer.pair_rows import PairRow, render_pairs
from tracemend.trainer.rendering import Template, TokenRow, fit_length, render_rows
from tracemend.trainer.schedule import num_steps, order_rows
from tracemend.trainer.settings import TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The rows as they will be trained on, and what was measured on the way."""

    rows: Sequence[TokenRow] = ()
    pairs: Sequence[PairRow] = ()
    schedule: Sequence[int]
    num_steps: int
    tokenizer: Any
    template: Template
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The model that training starts from, without its weights, and how it is served."""

    tokenizer: Any
    template: Template
    limits: ModelLimits
    system: str


def prepare(
    dataset: Path,
    base: Path,
    reasoning_format: str,
    settings: TrainSettings,
    algorithm: Algorithm,
    *,
    system: str = "",
) -> Prepared:
    """The rows of the exported `dataset` for training the model in `base`, which is served with the prompt `system`.

    Raises:
        SetupError: The dataset is of the other kind, the fidelity gate objects, or no row is left.
    """
    kind = read_manifest(dataset).kind
    if kind != algorithm.kind:
        raise SetupError(
            f"algorithm '{settings.algorithm}' learns from {algorithm.kind} and {dataset} holds {kind}: set "
            f"assemble.kind: {algorithm.kind}, or another train.algorithm"
        )
    loaded = load_base(base, reasoning_format, system)
    make = _from_pairs if kind == "pairs" else _from_examples
    return make(dataset, loaded, settings, algorithm)


def load_base(folder: Path, reasoning_format: str, system: str) -> Base:
    """What the model folder says of the model, which is served with the prompt `system`."""
    from transformers import AutoConfig, AutoTokenizer

    from tracemend.traces.template import ChatTemplate

    config = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
    return Base(
        tokenizer=AutoTokenizer.from_pretrained(folder, local_files_only=True),
        template=ChatTemplate.load(folder, reasoning_format),
        limits=ModelLimits(
            vocab_size=config.vocab_size, context_length=getattr(config, "max_position_embeddings", None) or 0
        ),
        system=system,
    )


def _from_examples(dataset: Path, base: Base, settings: TrainSettings, algorithm: Algorithm) -> Prepared:
    examples = algorithm.chosen(read_examples(dataset))
    rendered = render_rows(examples, base.template, base.tokenizer, settings, system=base.system)
    overridden = require_fidelity(
        rendered, base.template, settings, limits=base.limits, num_examples=len(examples), system=base.system
    )
    rows, num_longer = fit_length(rendered, settings)
    ids, lengths = [row.example.id for row in rows], [len(row.input_ids) for row in rows]
    schedule, steps = _order(ids, lengths, settings, algorithm)
    metrics = {"tokens": sum(lengths) * settings.epochs, **_counts(len(rows), num_longer, overridden)}
    return Prepared(
        rows=rows,
        schedule=schedule,
        num_steps=steps,
        tokenizer=base.tokenizer,
        template=base.template,
        metrics=metrics,
    )


def _from_pairs(dataset: Path, base: Base, settings: TrainSettings, algorithm: Algorithm) -> Prepared:
    _require_sampled_rows(settings)
    spans = algorithm.spans
    rendered = render_pairs(read_served_pairs(dataset), base.template, spans)
    overridden = require_pair_fidelity(
        rendered, base.template, settings, limits=base.limits, spans=spans, system=base.system
    )
    longest = max_pair_length(rendered, settings)
    pairs = [row for row in rendered if row.num_tokens <= longest]
    schedule, steps = _order([row.pair.id for row in pairs], [row.num_tokens for row in pairs], settings, algorithm)
    tokens = sum(2 * len(row.prompt_ids) + len(row.chosen_ids) + len(row.rejected_ids) for row in pairs)
    metrics = {"tokens": tokens * settings.epochs, **_counts(len(pairs), len(rendered) - len(pairs), overridden)}
    return Prepared(
        pairs=pairs,
        schedule=schedule,
        num_steps=steps,
        tokenizer=base.tokenizer,
        template=base.template,
        metrics=metrics,
    )


def _require_sampled_rows(settings: TrainSettings) -> None:
    """Pairs are trained on as they were sampled; settings that would render or cut them would be silently ignored."""
    wanted = {"render": "chat", "teach_end": True, "train_on_prompt": False, "truncation": "drop"}
    others = [
        f"{name}: {getattr(settings, name)}" for name, value in wanted.items() if getattr(settings, name) != value
    ]
    if others:
        raise SetupError(f"pairs are trained on as they were sampled; take {', '.join(others)} out of train")


def _order(
    ids: Sequence[str], lengths: Sequence[int], settings: TrainSettings, algorithm: Algorithm
) -> tuple[list[int], int]:
    """The schedule of all epochs, and its optimiser steps."""
    if not ids:
        raise SetupError(f"no row is left to train on after max_length {settings.max_length}")
    batch_rows = algorithm.rows_per_step(settings)
    schedule = order_rows(ids, lengths, epochs=settings.epochs, batch_rows=batch_rows, seed=settings.seed)
    return schedule, num_steps(len(ids), epochs=settings.epochs, batch_rows=batch_rows)


def _counts(num_rows: int, num_longer: int, overridden: Sequence[Objection]) -> dict[str, float]:
    names = {f"overridden/{objection.name}": objection.num_rows for objection in overridden}
    return {"rows": num_rows, "rows_longer": num_longer, **names}
