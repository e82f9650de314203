"""Whole renders, kept: what a change of the chart does to a release is seen in its diff.

python -m tests.charts.test_charts_golden        makes them anew
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.charts.chart_values import SETS, Manifest, rendered

FIRST = "external"
GOLDEN = Path(__file__).parent / "golden"
_KEPT_ELSEWHERE = ("CustomResourceDefinition", "PrometheusRule")
"""Made from files that have their own tests; dashboards likewise."""


def kept(values: str) -> str:
    """The release, without what is long and comes from files; of other sets, what is not as the first one has it."""
    first = _objects(FIRST) if values != FIRST else []
    return yaml.safe_dump_all([each for each in _objects(values) if each not in first], sort_keys=True, width=120)


def _objects(values: str) -> list[Manifest]:
    objects = [
        each
        for each in rendered(SETS[values])
        if each["kind"] not in _KEPT_ELSEWHERE and "-dashboard" not in each["metadata"]["name"]
    ]
    return sorted(objects, key=lambda each: (each["kind"], each["metadata"]["name"]))


@pytest.mark.parametrize("values", SETS)
def test_the_release_is_the_one_that_was_reviewed(values: str) -> None:
    reviewed = (GOLDEN / f"{values}.yaml").read_text(encoding="utf-8")
    assert kept(values) == reviewed, "if this is meant: python -m tests.charts.test_charts_golden"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in SETS:
        (GOLDEN / f"{name}.yaml").write_text(kept(name), encoding="utf-8")
