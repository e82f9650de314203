"""Geometry of drawings: what stands where, and that nothing stands on anything else."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracemend.evaluator.report.charts import Scale, ceiling_of, dot_panel, scatter, stacked

RATES = st.floats(0, 1)


def estimate(value: float, half: float = 0.05) -> dict[str, Any]:
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half), "n": 60}


def point(name: str, x: float, y: float) -> dict[str, Any]:
    return {"name": name, "colour": "c1", "x": estimate(x), "y": estimate(y)}


@pytest.mark.parametrize(
    ("rates", "ceiling"), [([], 0.05), ([None], 0.05), ([0.04, None], 0.05), ([0.31], 0.4), ([1.0], 1.0)]
)
def test_axes_end_at_the_next_round_rate(rates: list[float | None], ceiling: float) -> None:
    assert ceiling_of(rates) == ceiling


def test_an_axis_begins_at_zero_and_ends_at_its_ceiling() -> None:
    scale = Scale(ceiling=0.5, start=100, end=300)
    assert [scale.at(rate) for rate in (0.0, 0.25, 0.5, 0.9)] == [100, 200, 300, 300]
    assert [tick["rate"] for tick in scale.ticks] == [0.0, 0.25, 0.5]


def test_the_base_is_the_band_behind_all_rows() -> None:
    arms = [{"name": n, "colour": "c0", "figure": estimate(v)} for n, v in (("base", 0.5), ("arm", 0.1))]
    panel = dot_panel(arms, base="base", ceiling=1.0)
    assert panel["base"]["name"] == "base"
    assert panel["rows"][1]["high"] < panel["base"]["low"]
    assert panel["rows"][0]["y"] < panel["rows"][1]["y"] < panel["bottom"]


def test_an_undecided_base_leaves_the_band_away() -> None:
    nothing = {"value": None, "low": None, "high": None}
    panel = dot_panel([{"name": "base", "colour": "c0", "figure": nothing}], base="base", ceiling=1.0)
    assert panel["base"] is None
    assert panel["rows"][0]["is_decided"] is False


def test_the_front_goes_through_the_arms_that_none_beats() -> None:
    chart = scatter([point("base", 0.0, 0.8), point("good", 0.1, 0.1), point("beaten", 0.2, 0.4)])
    at = {p["name"]: (p["at_x"], p["at_y"]) for p in chart["points"]}
    x, y = chart["x"], chart["y"]
    (bx, by), (gx, gy) = at["base"], at["good"]
    assert chart["front"] == f"M{bx} {y.end}H{bx}V{by}H{gx}V{gy}H{x.end}"


@given(st.lists(st.tuples(RATES, RATES), min_size=1, max_size=6))
@example([(1.0, 1.0)] * 6)
@example([(0.0, 0.0)] * 6)
def test_labels_do_not_stand_on_each_other(places: list[tuple[float, float]]) -> None:
    chart = scatter([point(f"arm{i}", x, y) for i, (x, y) in enumerate(places)])
    for one, other in combinations(chart["points"], 2):
        assert abs(one["label_y"] - other["label_y"]) >= 11 or _apart(one, other)


def _apart(one: dict[str, Any], other: dict[str, Any]) -> bool:
    (a, b), (c, d) = _columns(one), _columns(other)
    return b <= c or d <= a


def _columns(label: dict[str, Any]) -> tuple[float, float]:
    width = 7 * len(label["name"])
    start = label["label_x"] - (width if label["anchor"] == "end" else 0)
    return start, start + width


def test_segments_fill_the_bar_and_skip_what_is_not_there() -> None:
    segments = stacked([("kept", 1), ("dead", 0), ("corrected", 3)])
    assert [(s["name"], s["x"], s["width"]) for s in segments] == [("kept", 0.0, 25.0), ("corrected", 25.0, 75.0)]
    assert stacked([("kept", 0)]) == []
