"""Pictures of curves: whole files, equal for equal curves, without words unless they are handed in."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tracemend.evaluator.continuation.curves import Counts, Curve, Point
from tracemend.evaluator.continuation.plot import Caption, draw
from tracemend.evaluator.continuation.settings import ContinuationSettings
from tracemend.records import Value

SETTINGS = ContinuationSettings()
WORDS = ("first they ask .", "then they turn .", "at the end they plan it .")


def curve(num_steps: int = 3) -> Curve:
    bounds = tuple(2 + 9 * step for step in range(num_steps + 1))
    points = tuple(
        Point(token=token, reasoning=Counts(num_safe=max(0, 16 - 9 * i), num_unsafe=min(16, 9 * i), num_unknown=1))
        for i, token in enumerate(bounds)
    )
    return Curve(trajectory="t", prompt="p", value=Value.UNSAFE, bounds=bounds, points=points, cue=2, trigger=3)


def texts(path: Path) -> str:
    """What the picture says: matplotlib leaves each drawn text as a comment beside its outlines."""
    return path.read_text(encoding="utf-8")


def test_equal_curves_give_equal_pictures(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        draw(curve(), SETTINGS, Caption(title="t", words=WORDS), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert ElementTree.parse(tmp_path / "one.svg").getroot().tag.endswith("svg")


def test_words_are_drawn_only_when_handed_in(tmp_path: Path) -> None:
    draw(curve(), SETTINGS, Caption(title="t"), tmp_path / "bare.svg")
    draw(curve(), SETTINGS, Caption(title="t", words=WORDS), tmp_path / "told.svg")
    assert WORDS[1] not in texts(tmp_path / "bare.svg")
    assert WORDS[1] in texts(tmp_path / "told.svg")


def test_cue_trigger_and_banner_are_drawn(tmp_path: Path) -> None:
    draw(curve(), SETTINGS, Caption(title="t", synthetic=True), tmp_path / "a.svg")
    said = texts(tmp_path / "a.svg")
    for what in ("first compliance cue (step 2)", "safety trigger (step 3)", "unsafe turning point", "SYNTHETIC"):
        assert what in said
    draw(curve(), SETTINGS, Caption(title="t"), tmp_path / "b.svg")
    assert "SYNTHETIC" not in texts(tmp_path / "b.svg")


@pytest.mark.parametrize("words", [("$x^{", "\\frac{", "a" * 500, ""), tuple(f"step {n}" for n in range(200))])
def test_hostile_and_long_words_are_drawn_as_they_are(words: tuple[str, ...], tmp_path: Path) -> None:
    draw(curve(len(words)), SETTINGS, Caption(title="$t_{", words=words), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_trace_without_steps_is_a_point(tmp_path: Path) -> None:
    point = Point(token=2, reasoning=Counts(num_safe=1))
    alone = Curve(trajectory="t", prompt="p", value=Value.SAFE, bounds=(2,), points=(point,))
    draw(alone, SETTINGS, Caption(title="t"), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 1000
