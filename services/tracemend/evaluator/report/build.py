"""From a run's facts to `report.json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tracemend.evaluator.report.input import ReportInput


def build_report(facts: ReportInput) -> dict[str, Any]:
    """The report as plain JSON values."""
    measured = facts.measurements
    return {
        "run": facts.run,
        "name": facts.name,
        "synthetic": facts.synthetic,
        "arms": {
            arm: {
                "metrics": {
                    metric: {split: asdict(estimate) for split, estimate in splits.items()}
                    for metric, splits in figures.items()
                }
            }
            for arm, figures in measured.metrics.items()
        },
        "timing": {"total_s": facts.total_s},
    }
