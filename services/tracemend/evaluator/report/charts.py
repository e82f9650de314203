"""Geometry of the page's charts: figures in, positions out; the templates draw them.

Used by `report.page`. Lengths are user units of each drawing's own view box; rates lie in [0, 1]. Every drawing also
stands as a table on the page, so nothing here is the only place of a figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_CEILINGS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
_ROW_HEIGHT = 26
_LETTER = 7.2
"""Width of a letter of a label, taken generously: fonts differ."""
_MAX_LETTERS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    left: float
    right: float
    top: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A linear axis from 0 to `ceiling`, drawn from `start` to `end`."""

    ceiling: float
    start: float
    end: float

    def at(self, rate: float) -> float:
        """Position of `rate`, held inside the axis."""
        share = min(1.0, max(0.0, rate / self.ceiling))
        return round(self.start + share * (self.end - self.start), 2)

    @property
    def ticks(self) -> list[dict[str, Any]]:
        """Zero, middle and ceiling, or quarters where these are round."""
        steps = 4 if self.ceiling in (0.2, 0.4, 0.8, 1.0) else 2
        rates = [self.ceiling * step / steps for step in range(steps + 1)]
        return [{"at": self.at(rate), "rate": rate} for rate in rates]


def ceiling_of(rates: Sequence[float | None]) -> float:
    """The least round ceiling that all of `rates` lie under."""
    highest = max((rate for rate in rates if rate is not None), default=0.0)
    return next((ceiling for ceiling in _CEILINGS if highest <= ceiling + 1e-9), 1.0)


def dot_panel(arms: Sequence[Mapping[str, Any]], *, base: str, ceiling: float) -> dict[str, Any]:
    """One row per arm with its dot and interval, and the base's as a band behind all rows.

    `arms` hold `name`, `colour` and `figure` (an estimate as in report.json, or None).
    """
    scale = Scale(ceiling=ceiling, start=150, end=348)
    rows = [_dot_row(arm, scale, index) for index, arm in enumerate(arms)]
    reference = next((row for row in rows if row["name"] == base and row["is_decided"]), None)
    bottom = 10 + _ROW_HEIGHT * len(rows)
    return {"rows": rows, "base": reference, "scale": scale, "bottom": bottom, "width": 400, "height": bottom + 24}


def _dot_row(arm: Mapping[str, Any], scale: Scale, index: int) -> dict[str, Any]:
    figure = arm["figure"]
    row = {"name": arm["name"], "colour": arm["colour"], "figure": figure, "y": 10 + _ROW_HEIGHT * (index + 0.5)}
    if figure is None or figure["value"] is None:
        return {**row, "is_decided": False}
    positions = {name: scale.at(figure[name]) for name in ("value", "low", "high")}
    return {**row, "is_decided": True, **positions}


def scatter(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Arms as points with an interval on both axes, and the front that no arm beats on both (less is better).

    `points` hold `name`, `colour`, `x` and `y` (estimates with a value).
    """
    x = Scale(ceiling=ceiling_of([p["x"]["high"] for p in points]), start=52, end=404)
    y = Scale(ceiling=ceiling_of([p["y"]["high"] for p in points]), start=300, end=16)
    placed = [_place(point, x, y) for point in points]
    _place_labels(placed, width=420, left=x.at(0), bottom=y.at(0))
    return {"points": placed, "x": x, "y": y, "front": _front(placed, x, y), "width": 420, "height": 344}


def fronts(series: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each arm's candidates as a line through its points, by rising dose; the chosen one of each is marked.

    `series` hold `name`, `colour` and `points`, which hold `x`, `y` (rates), `dose` and `is_chosen`.
    """
    points = [point for line in series for point in line["points"]]
    x = Scale(ceiling=ceiling_of([p["x"] for p in points]), start=52, end=404)
    y = Scale(ceiling=ceiling_of([p["y"] for p in points]), start=300, end=16)
    lines = []
    for line in series:
        placed = [{**p, "at_x": x.at(p["x"]), "at_y": y.at(p["y"])} for p in line["points"]]
        path = " ".join(f"{p['at_x']},{p['at_y']}" for p in placed)
        lines.append({**line, "points": placed, "path": path})
    return {"lines": lines, "x": x, "y": y, "width": 420, "height": 344}


def _place(point: Mapping[str, Any], x: Scale, y: Scale) -> dict[str, Any]:
    across, up = point["x"], point["y"]
    return {
        **point,
        "at_x": x.at(across["value"]),
        "at_y": y.at(up["value"]),
        "low_x": x.at(across["low"]),
        "high_x": x.at(across["high"]),
        "low_y": y.at(up["low"]),
        "high_y": y.at(up["high"]),
    }


_RISES = (7, -16, 24, -33, 41, -50, 58, -67, 75, -84, 92, -101)
"""How far a label's baseline may lie above its point, the nearest first: a line's height apart, either way, since a
corner of the chart has room on one side alone."""


def _place_labels(placed: Sequence[dict[str, Any]], *, width: float, left: float, bottom: float) -> None:
    """Give each point a label's place: the nearest one that is inside, right of `left` and above `bottom` where the
    axes are written, and covers no dot and no other label."""
    dots = [_Box(left=p["at_x"] - 6, right=p["at_x"] + 6, top=p["at_y"] - 6, bottom=p["at_y"] + 6) for p in placed]
    taken: list[_Box] = []
    for point in sorted(placed, key=lambda p: (p["at_y"], p["at_x"])):
        places = [_label_at(point, right, up) for up in _RISES for right in (True, False)]
        inside = [p for p in places if p["box"].left >= 0 and p["box"].right <= width and p["box"].top >= 0]
        free = [p for p in inside if not any(p["box"].meets(other) for other in (*dots, *taken))]
        clear = [p for p in free if p["box"].left >= left and p["box"].bottom <= bottom]
        chosen = (clear or free or inside or places)[0]
        taken.append(chosen["box"])
        point.update({name: value for name, value in chosen.items() if name != "box"})


def _label_at(point: Mapping[str, Any], right: bool, up: float) -> dict[str, Any]:
    """A label whose baseline lies `up` above its point's middle; far ones are tied to the point by a line."""
    x, y = point["at_x"] + (10 if right else -10), point["at_y"] - up
    length = _LETTER * min(len(point["name"]), _MAX_LETTERS)
    left = x if right else x - length
    box = _Box(left=left, right=left + length, top=y - 11, bottom=y + 3)
    is_far = up > 20 or up < -20
    return {"label_x": x, "label_y": y, "anchor": "start" if right else "end", "is_far": is_far, "box": box}


def _front(placed: Sequence[Mapping[str, Any]], x: Scale, y: Scale) -> str:
    """The staircase through the points that no other beats on both axes, as an SVG path."""
    best = [p for p in placed if not any(_beats(other, p) for other in placed)]
    best.sort(key=lambda p: (p["at_x"], -p["at_y"]))
    if not best:
        return ""
    path = [f"M{best[0]['at_x']} {y.end}"]
    for point in best:
        path.append(f"H{point['at_x']}V{point['at_y']}")
    return "".join([*path, f"H{x.end}"])


def _beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    ours, theirs = (one["x"]["value"], one["y"]["value"]), (other["x"]["value"], other["y"]["value"])
    return bool(ours[0] <= theirs[0] and ours[1] <= theirs[1] and ours != theirs)


def stacked(counts: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """Segments of a bar of width 100 in the order given; nothing for a total of zero."""
    total = sum(n for _, n in counts)
    segments: list[dict[str, Any]] = []
    start = 0.0
    for name, n in counts:
        width = 100 * n / total if total else 0.0
        if width:
            segments.append({"name": name, "n": n, "share": n / total, "x": round(start, 3), "width": round(width, 3)})
        start += width
    return segments
