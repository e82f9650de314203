"""Whole renders, kept: what a change of the chart does to a release is seen in its diff.

python -m tests.charts.test_charts_golden        makes them anew
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.charts.chart_values import DEV, EXTERNAL, rendered

KEPT = {"external": EXTERNAL, "dev": DEV}
GOLDEN = Path(__file__).parent / "golden"
_KEPT_ELSEWHERE = ("CustomResourceDefinition", "PrometheusRule")
"""Made from files that have their own tests; dashboards likewise."""


def whole(values: str) -> str:
    """The release, without what is long and comes from files."""
    objects = [
        each
        for each in rendered(KEPT[values])
        if each["kind"] not in _KEPT_ELSEWHERE and "-dashboard" not in each["metadata"]["name"]
    ]
    objects.sort(key=lambda each: (each["kind"], each["metadata"]["name"]))
    return yaml.safe_dump_all(objects, sort_keys=True, width=120)


@pytest.mark.parametrize("values", KEPT)
def test_the_release_is_the_one_that_was_reviewed(values: str) -> None:
    kept = (GOLDEN / f"{values}.yaml").read_text(encoding="utf-8")
    assert whole(values) == kept, "if this is meant: python -m tests.charts.test_charts_golden"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in KEPT:
        (GOLDEN / f"{name}.yaml").write_text(whole(name), encoding="utf-8")
