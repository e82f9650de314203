"""From a run's facts to `report.json`: what programs read, and all that the page shows.

Called by the embedded pipeline and by `tracemend report`. The content is a pure function of the facts. Readers may
rely on `arms[ARM].metrics[METRIC][SPLIT]` (value, low, high, n, unknown, …; null where nothing could be decided),
`timing.total_s` and the other top-level names; names are only ever added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tracemend.evaluator.report.examples import build_examples
from tracemend.evaluator.report.flow import build_cost, build_funnel
from tracemend.evaluator.report.gate import build_gate
from tracemend.evaluator.report.input import ReportInput
from tracemend.evaluator.report.plain import plain
from tracemend.evaluator.report.sweeps import build_sweeps
from tracemend.evaluator.report.trust import build_trust
from tracemend.evaluator.scores import Metric, metrics

SCHEMA = 1


def build_report(facts: ReportInput) -> dict[str, Any]:
    """The report as plain JSON values: finite numbers, encodable strings."""
    measured = facts.measurements
    described = {name: metrics.create(name) for name in sorted({m for arm in measured.metrics.values() for m in arm})}
    content = {
        "schema": SCHEMA,
        "run": facts.run,
        "name": facts.name,
        "profile": facts.profile,
        "synthetic": facts.synthetic,
        "base": facts.base,
        "trust": build_trust(facts),
        "metrics": {name: _described(metric) for name, metric in described.items()},
        "arms": {arm: _arm(facts, arm, figures) for arm, figures in measured.metrics.items()},
        "differences": measured.differences,
        "comparisons": measured.comparisons,
        "sweeps": build_sweeps(facts),
        "gate": build_gate(facts),
        "quadrants": measured.quadrants,
        "compliance": measured.compliance,
        "funnel": build_funnel(facts),
        "yields": facts.yields,
        "cost": build_cost(facts),
        "examples": build_examples(facts.examples),
        "configuration": facts.plan,
        "digests": _digests(facts),
        "environment": {"versions": facts.versions, "hardware": facts.hardware},
        "timing": {"total_s": facts.total_s, "stages": {cost.stage: cost.seconds for cost in facts.costs}},
    }
    report: dict[str, Any] = plain(content)
    return report


def without_words(report: bytes) -> bytes:
    """A `report.json` without its examples, which alone hold what prompts and models say; for those who may know how a
    run went and not what it was about."""
    content = json.loads(report)
    return json.dumps(content | {"examples": []}, allow_nan=False, ensure_ascii=False).encode()


def _described(metric: Metric) -> dict[str, Any]:
    return {"title": metric.title, "axis": metric.axis, "higher_is_better": metric.higher_is_better}


def _arm(facts: ReportInput, arm: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    checkpoint = facts.checkpoints.get(arm)
    manifest = facts.manifests.get(arm)
    return {
        "metrics": figures,
        "finishes": facts.measurements.finishes.get(arm, {}),
        "dataset": {"rows": manifest.num_rows, "kind": manifest.kind, "counts": manifest.counts} if manifest else None,
        "training": {"step": checkpoint.step, "final_loss": checkpoint.final_loss, "metrics": checkpoint.metrics}
        if checkpoint
        else None,
    }


def _digests(facts: ReportInput) -> dict[str, Any]:
    return {
        "plan": facts.plan_digest,
        "judges": facts.judges,
        "datasets": {arm: manifest.digest for arm, manifest in facts.manifests.items()},
        "models": {arm: checkpoint.model for arm, checkpoint in facts.checkpoints.items()},
    }
