"""The picture of one trace's curve: ratio and interval over the reasoning, with cue, trigger and turning points.

Drawn by `tracemend csr`. Steps are numbers; their words are drawn only when they are handed in, below the picture, as
text that nothing interprets.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemend.evaluator.continuation.curves import Curve
from tracemend.evaluator.continuation.settings import ContinuationSettings
from tracemend.evaluator.continuation.turning import turning_points

_CURVE, _SAFE, _UNSAFE, _INK = "#1f5fa8", "#2c7a3f", "#b3261e", "#444444"
_MAX_TICKS = 24
_MAX_WORDS_LINES = 80
_CURVE_INCHES = 4.1
_LINE_INCHES = 0.17
_LINE_CHARS = 104
# Without these, equal curves give unequal files.
_STEADY = {"svg.hashsalt": "tracemend", "path.simplify": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """What stands around the curve."""

    title: str
    synthetic: bool = False
    confidence: float = 0.95
    words: Sequence[str] = ()
    """The steps as harmless text, to be listed below; empty for numbers alone."""


def draw(curve: Curve, settings: ContinuationSettings, caption: Caption, path: Path) -> None:
    """Write the picture to `path`; its suffix, .svg or .png, is its format."""
    import matplotlib
    from matplotlib.figure import Figure

    lines = _lines(caption.words)
    below = _LINE_INCHES * len(lines) + (0.25 if lines else 0.0)
    height = _CURVE_INCHES + below
    with matplotlib.rc_context(_STEADY):
        figure = Figure(figsize=(8.0, height))
        axes = figure.add_axes((0.085, (below + 0.82) / height, 0.85, (_CURVE_INCHES - 1.45) / height))
        _curve(axes, curve, caption.confidence)
        _thresholds(axes, curve, settings)
        _marks(axes, curve, settings)
        _frame(axes, curve)
        _titles(figure, caption, height)
        for number, line in enumerate(lines):
            top = (below - 0.1 - _LINE_INCHES * number) / height
            figure.text(0.085, top, line, fontsize=7.5, family="monospace", va="top", parse_math=False)
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=160, metadata=metadata)


def _curve(axes: Any, curve: Curve, confidence: float) -> None:
    start = curve.bounds[0]
    tokens = [point.token - start for point in curve.points]
    ratios = [point.reasoning.ratio for point in curve.points]
    bands = [point.reasoning.interval(confidence) for point in curve.points]
    axes.fill_between(tokens, [b[0] for b in bands], [b[1] for b in bands], color=_CURVE, alpha=0.16, linewidth=0)
    marker = "o" if len(tokens) <= 2 * _MAX_TICKS else ""
    axes.plot(
        tokens, ratios, color=_CURVE, marker=marker, markersize=4, linewidth=1.6, label="S: share of safe", zorder=3
    )


def _thresholds(axes: Any, curve: Curve, settings: ContinuationSettings) -> None:
    for level, colour, name in ((settings.safe_at_least, _SAFE, "μ"), (settings.unsafe_at_most, _UNSAFE, "η")):
        axes.axhline(level, color=colour, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
        where = (1.006, level)
        axes.annotate(
            f"{name} {level:g}", where, xycoords=("axes fraction", "data"), color=colour, fontsize=8, va="center"
        )


def _marks(axes: Any, curve: Curve, settings: ContinuationSettings) -> None:
    """Shade the steps of cue and trigger, and mark the turning points."""
    for step, colour, name in ((curve.cue, _UNSAFE, "first compliance cue"), (curve.trigger, _SAFE, "safety trigger")):
        if 1 <= step <= curve.num_steps:
            first, last = (curve.bounds[i] - curve.bounds[0] for i in (step - 1, step))
            axes.axvspan(first, last, color=colour, alpha=0.13, linewidth=0, label=f"{name} (step {step})", zorder=0)
    turning = turning_points(curve, settings)
    for token, colour, name, shape in (
        (turning.safe, _SAFE, "safe turning point i⁺", "^"),
        (turning.unsafe, _UNSAFE, "unsafe turning point i⁻", "v"),
    ):
        point = curve.at(token) if token is not None else None
        if point is not None:
            where = [point.token - curve.bounds[0]]
            axes.plot(
                where, [point.reasoning.ratio], shape, color=colour, markersize=10, markeredgecolor="white", label=name,
                zorder=4, linestyle="none", clip_on=False,
            )  # fmt: skip


def _frame(axes: Any, curve: Curve) -> None:
    length = curve.bounds[-1] - curve.bounds[0]
    axes.set_xlim(-0.015 * max(1, length), 1.015 * max(1, length))
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("continuation safety ratio S", color=_INK, fontsize=9)
    axes.set_xlabel("reasoning tokens kept", color=_INK, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=8)
    steps = axes.secondary_xaxis("top")
    every = max(1, -(-curve.num_steps // _MAX_TICKS))
    shown = range(0, curve.num_steps + 1, every)
    steps.set_xticks([curve.bounds[step] - curve.bounds[0] for step in shown], [str(step) for step in shown])
    steps.tick_params(colors=_INK, labelsize=7.5, length=2)
    steps.spines["top"].set_visible(False)
    steps.set_xlabel("steps kept", color=_INK, fontsize=7.5)
    axes.legend(
        fontsize=7.5, frameon=False, ncols=5, loc="upper left", bbox_to_anchor=(-0.02, -0.17), columnspacing=1.4
    )


def _titles(figure: Any, caption: Caption, height: float) -> None:
    top = 1 - 0.08 / height
    figure.text(0.012, top, caption.title, fontsize=9, va="top", color=_INK, parse_math=False)
    if caption.synthetic:
        note = "SYNTHETIC: the proving ground, not a real model"
        figure.text(0.988, top, note, fontsize=8, va="top", ha="right", color=_UNSAFE, parse_math=False)


def _lines(words: Sequence[str]) -> list[str]:
    """The steps, numbered and wrapped, as many as a picture can hold."""
    lines: list[str] = []
    for number, step in enumerate(words, start=1):
        wrapped = textwrap.wrap(" ".join(step.split()), _LINE_CHARS) or [""]
        lines += [f"{number:>4}  {wrapped[0]}", *(f"      {rest}" for rest in wrapped[1:])]
    if len(lines) > _MAX_WORDS_LINES:
        lines = [*lines[:_MAX_WORDS_LINES], "   …  the rest is left out"]
    return lines
