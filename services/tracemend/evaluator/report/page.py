"""From `report.json` to what the page's template reads: sections with their rows, colours and drawings in place.

Called by `report.html`. Reads nothing but the report, so a `report.json` of the same schema can be drawn again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tracemend.evaluator.report.charts import ceiling_of, dot_panel, fronts, scatter, stacked
from tracemend.evaluator.report.flow import shares

ALL = "all"
_HARM = ("harm_reasoning", "harm_answer")
_HEADLINE = (*_HARM, "over_refusal", "capability")
_NUM_COLOURS = 8

QUADRANTS = {
    "safe/safe": "both safe",
    "unsafe/safe": "only the reasoning unsafe",
    "safe/unsafe": "only the answer unsafe",
    "unsafe/unsafe": "both unsafe",
    "undecided": "not decided",
}
COMPLIANCE = {
    "full_compliance": "helps in full",
    "partial_refusal": "refuses in part",
    "full_refusal": "refuses",
    "refusal": "refuses, the judge does not say how far",
    "unknown": "not decided",
}
STATES = {
    "corrected": "corrected",
    "kept": "kept as written",
    "not_selected": "not selected",
    "gave_up": "gave up",
    "rejected": "rejected",
    "cancelled": "cancelled",
    "dead": "dead-lettered",
    "open": "still open",
}


def page(report: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the template names."""
    arms = list(report["arms"])
    colours = _colours(arms, base=report["base"])
    return {
        "report": report,
        "colours": colours,
        "titles": {name: metric["title"] for name, metric in report["metrics"].items()},
        "headline": _HEADLINE,
        "glance": _glance(report, arms),
        "harm": _harm(report, arms, colours),
        "tradeoffs": _tradeoffs(report, arms, colours),
        "fronts": _fronts(report, arms, colours),
        "quadrants": _bars(report["quadrants"], arms, QUADRANTS, other="undecided"),
        "quadrant_names": QUADRANTS,
        "compliance": _bars(report.get("compliance", {}), arms, COMPLIANCE, other="unknown"),
        "compliance_names": COMPLIANCE,
        "funnel": _funnel(report),
        "state_names": STATES,
        "figures": _figures(report, arms),
        "examples": _by_arm(report["examples"]),
        "configuration": json.dumps(report["configuration"], indent=2, ensure_ascii=False),
    }


def _colours(arms: Sequence[str], *, base: str) -> dict[str, str]:
    """Colour classes: the base's is neutral, the others follow in the order of the run file."""
    others = [arm for arm in arms if arm != base]
    return {base: "c0", **{arm: f"c{1 + index % (_NUM_COLOURS - 1)}" for index, arm in enumerate(others)}}


def _estimate(report: Mapping[str, Any], arm: str, metric: str, split: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = report["arms"][arm]["metrics"].get(metric, {}).get(split)
    return found


def _difference(report: Mapping[str, Any], arm: str, metric: str, split: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = report["differences"].get(arm, {}).get(metric, {}).get(split)
    return found


def _glance(report: Mapping[str, Any], arms: Sequence[str]) -> list[dict[str, Any]]:
    """One row per arm: the headline metrics over all splits, their differences, and the decision."""
    gate = report["gate"]["arms"]
    return [
        {
            "arm": arm,
            "gate": gate.get(arm),
            "cells": [
                {
                    "metric": metric,
                    "figure": _estimate(report, arm, metric, ALL),
                    "difference": _difference(report, arm, metric, ALL),
                    "axis": gate.get(arm, {}).get("axes", {}).get(metric, ""),
                }
                for metric in _HEADLINE
            ],
        }
        for arm in arms
    ]


def _splits(report: Mapping[str, Any], metric: str) -> list[str]:
    """Splits of `metric` over all arms, in the order of the run; `all` last."""
    found = dict.fromkeys(s for arm in report["arms"].values() for s in arm["metrics"].get(metric, {}))
    return [split for split in found if split != ALL] + [split for split in found if split == ALL]


def _harm(report: Mapping[str, Any], arms: Sequence[str], colours: Mapping[str, str]) -> list[dict[str, Any]]:
    """Per harm metric: a dot panel and a table row per split."""
    estimates = [_estimate(report, arm, m, s) for m in _HARM for s in _splits(report, m) for arm in arms]
    ceiling = ceiling_of([e["high"] for e in estimates if e])
    return [
        {
            "metric": metric,
            "splits": [_split(report, metric, split, arms, colours, ceiling) for split in splits],
            "has_many": len(splits) > 2,
        }
        for metric in _HARM
        if (splits := _splits(report, metric))
    ]


def _split(
    report: Mapping[str, Any],
    metric: str,
    split: str,
    arms: Sequence[str],
    colours: Mapping[str, str],
    ceiling: float,
) -> dict[str, Any]:
    rows = [{"name": arm, "colour": colours[arm], "figure": _estimate(report, arm, metric, split)} for arm in arms]
    panel = dot_panel(rows, base=report["base"], ceiling=ceiling)
    table = [
        {**row, "difference": _difference(report, arm, metric, split)} for arm, row in zip(arms, rows, strict=True)
    ]
    return {"split": split, "panel": panel, "rows": table}


def _tradeoffs(report: Mapping[str, Any], arms: Sequence[str], colours: Mapping[str, str]) -> list[dict[str, Any]]:
    """Over-refusal against each harm metric, over the arms in which both are decided."""
    drawings = []
    for metric in _HARM:
        points = []
        for arm in arms:
            x, y = _estimate(report, arm, "over_refusal", ALL), _estimate(report, arm, metric, ALL)
            if x and y and x["value"] is not None and y["value"] is not None:
                points.append({"name": arm, "colour": colours[arm], "x": x, "y": y})
        if points:
            drawings.append({"metric": metric, "chart": scatter(points)})
    return drawings


def _fronts(report: Mapping[str, Any], arms: Sequence[str], colours: Mapping[str, str]) -> dict[str, Any] | None:
    """Harm of the reasoning against over-refusal over every swept dose, as far as both were measured."""
    series = []
    for arm in arms:
        points = [
            {
                "x": found["over_refusal"],
                "y": found["harm_reasoning"],
                "dose": candidate["learning_rate"],
                "is_chosen": candidate["chosen"],
            }
            for candidate in report.get("sweeps", {}).get(arm, {}).get("candidates", [])
            if "over_refusal" in (found := candidate["metrics"]) and "harm_reasoning" in found
        ]
        if points:
            series.append({"name": arm, "colour": colours[arm], "points": points})
    return fronts(series) if series else None


def _bars(
    counted: Mapping[str, Any], arms: Sequence[str], names: Mapping[str, str], *, other: str
) -> list[dict[str, Any]]:
    """Per split, a stacked bar per arm; `all` first. `counted` is arm → split → name → samples; what has none of
    `names` counts as `other`."""
    splits = dict.fromkeys([ALL, *(split for arm in arms for split in counted.get(arm, {}))])
    drawings = []
    for split in splits:
        rows = [_bar(arm, counted.get(arm, {}).get(split, {}), names, other=other) for arm in arms]
        if any(row["n"] for row in rows):
            drawings.append({"split": split, "rows": rows})
    return drawings


def _bar(arm: str, cells: Mapping[str, int], names: Mapping[str, str], *, other: str) -> dict[str, Any]:
    counts = dict.fromkeys(names, 0)
    for cell, n in cells.items():
        counts[cell if cell in counts else other] += n
    return {"arm": arm, "n": sum(counts.values()), "counts": counts, "bar": stacked(list(counts.items()))}


def _funnel(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry per group of arms that share their units."""
    groups: dict[str, dict[str, Any]] = {}
    for arm, flow in report["funnel"]["arms"].items():
        group = groups.setdefault(flow["owner"], {**flow, "arms": []})
        group["arms"].append({"arm": arm, "rows": flow["rows"], "cut": flow["cut"]})
    for group in groups.values():
        states = {**group["states"], "open": max(0, group["open"])}
        group["bar"] = stacked(shares(states, list(STATES)))
        group["notes"] = _notes(group)
    return list(groups.values())


def _notes(group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Why units ended as they did, and why accepted rows were left out of each arm's data set."""
    reasons = [
        {"n": n, "what": STATES.get(state, state), "reason": reason}
        for state, found in group["reasons"].items()
        for reason, n in found.items()
        if reason
    ]
    cuts = [
        {"n": n, "what": f"left out of the data of {arm['arm']}", "reason": cut}
        for arm in group["arms"]
        for cut, n in arm["cut"].items()
    ]
    return reasons + cuts


def _figures(report: Mapping[str, Any], arms: Sequence[str]) -> list[dict[str, Any]]:
    """Every figure of every metric, split and arm."""
    return [
        {
            "metric": metric,
            "split": split,
            "arm": arm,
            "figure": figure,
            "difference": _difference(report, arm, metric, split),
        }
        for metric in report["metrics"]
        for split in _splits(report, metric)
        for arm in arms
        if (figure := _estimate(report, arm, metric, split))
    ]


def _by_arm(examples: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for example in examples:
        groups.setdefault(example["unit"]["arm"], []).append(example)
    return groups
