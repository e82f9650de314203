"""The doses that were tried: every candidate of every sweep, with its figures on the validation prompts.

A learning rate is a dose: with enough of it any method refuses everything. Arms are therefore shown as fronts, harm
against over-refusal over all candidates, with the one that was chosen marked. Read from the metrics of checkpoints:
`candidate/RATE/METRIC` for each candidate, `learning_rate` for the one that was kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from tracemend.evaluator.report.input import ReportInput

_CANDIDATE = "candidate"


def build_sweeps(facts: ReportInput) -> dict[str, Any]:
    """Arm → chosen learning rate and candidates by rising rate; arms without a sweep are left out."""
    found = {arm: _sweep(checkpoint.metrics) for arm, checkpoint in facts.checkpoints.items()}
    return {arm: sweep for arm, sweep in found.items() if sweep["candidates"]}


def _sweep(metrics: Mapping[str, float]) -> dict[str, Any]:
    candidates: dict[float, dict[str, float]] = defaultdict(dict)
    for name, value in metrics.items():
        kind, _, rest = name.partition("/")
        rate, _, metric = rest.partition("/")
        if kind == _CANDIDATE:
            candidates[float(rate)][metric] = value
    chosen = metrics.get("learning_rate")
    return {
        "learning_rate": chosen,
        "candidates": [
            {"learning_rate": rate, "chosen": rate == chosen, "metrics": values}
            for rate, values in sorted(candidates.items())
        ],
    }
