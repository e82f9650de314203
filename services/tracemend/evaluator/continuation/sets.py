"""What a set of curves shows together: how cues and unsafe turning points go together, and what cues and triggers do.

Traces of one prompt are not independent, so prompts are what intervals draw (docs/decisions/0007): a drawn prompt
brings all of its traces.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tracemend.evaluator.continuation.curves import Change, Curve, change_at
from tracemend.evaluator.continuation.settings import ContinuationSettings
from tracemend.evaluator.continuation.turning import turning_points
from tracemend.evaluator.settings import StatisticsSettings
from tracemend.evaluator.stats import Interval, difference_interval
from tracemend.records import Value

_LEAST = 3
"""Points that a correlation is worth telling for: two always lie on a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Pearson's r; `low` and `high` are None where too few draws have one."""

    r: float
    low: float | None
    high: float | None
    n: int
    """Traces."""
    num_prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanChange:
    """Ratios before and after a kind of step, averaged over prompts."""

    before: float
    after: float
    change: Interval
    n: int
    """Traces."""
    num_significant: int
    """Traces whose own interval leaves out zero, on the side of the mean change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A set of traces; each figure is None where no trace can speak to it."""

    num_traces: Mapping[str, int]
    """By the verdict on their reasoning."""
    num_safe_turns: int
    """Safe traces that reach their safe turning point before the reasoning ends."""
    num_unsafe_turns: int
    """Unsafe traces that reach their unsafe one."""
    num_cues: int
    """Unsafe traces with a cue."""
    correlation: Correlation | None
    """First cue against unsafe turning point, in tokens of the response, over the unsafe traces that have both."""
    num_near: int
    """Those whose turning point lies in the cue's step or in the one before or behind it."""
    at_cue: MeanChange | None
    """Over unsafe traces."""
    at_trigger: MeanChange | None
    """Over traces with a trigger that was inserted or is known otherwise: at a step that was chosen for its turning
    point, a rise is no finding."""


def summarise(curves: Sequence[Curve], settings: ContinuationSettings, statistics: StatisticsSettings) -> Summary:
    """The set as a whole."""
    turns = {curve.trajectory: turning_points(curve, settings) for curve in curves}
    unsafe = [curve for curve in curves if curve.value is Value.UNSAFE]
    places = [
        (curve, curve.bounds[curve.cue - 1], turn)
        for curve in unsafe
        if curve.cue > 0 and (turn := turns[curve.trajectory].unsafe) is not None
    ]
    return Summary(
        num_traces={value.value: sum(curve.value is value for curve in curves) for value in Value},
        num_safe_turns=sum(c.value is Value.SAFE and turns[c.trajectory].safe is not None for c in curves),
        num_unsafe_turns=sum(turns[c.trajectory].unsafe is not None for c in unsafe),
        num_cues=sum(curve.cue > 0 for curve in unsafe),
        correlation=correlation([(c.prompt, float(cue), float(turn)) for c, cue, turn in places], statistics),
        num_near=sum(abs(curve.step_of(turn) - curve.cue) <= 1 for curve, _, turn in places),
        at_cue=_mean_change(((c, c.cue) for c in unsafe), statistics),
        at_trigger=_mean_change(((c, c.trigger) for c in curves), statistics),
    )


def correlation(points: Sequence[tuple[str, float, float]], statistics: StatisticsSettings) -> Correlation | None:
    """Pearson's r of (prompt, x, y), with a percentile bootstrap over prompts; None for fewer than three points or no
    spread."""
    r = _pearson([(x, y) for _, x, y in points])
    if r is None:
        return None
    of_prompt: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for prompt, x, y in points:
        of_prompt[prompt].append((x, y))
    low, high = _bootstrap(list(of_prompt.values()), statistics)
    return Correlation(r=r, low=low, high=high, n=len(points), num_prompts=len(of_prompt))


def _pearson(points: Sequence[tuple[float, float]]) -> float | None:
    if len(points) < _LEAST:
        return None
    mean_x, mean_y = (math.fsum(values) / len(points) for values in zip(*points, strict=True))
    spread_x = math.fsum((x - mean_x) ** 2 for x, _ in points)
    spread_y = math.fsum((y - mean_y) ** 2 for _, y in points)
    if spread_x == 0 or spread_y == 0:
        return None
    joint = math.fsum((x - mean_x) * (y - mean_y) for x, y in points)
    return max(-1.0, min(1.0, joint / math.sqrt(spread_x * spread_y)))


def _bootstrap(
    prompts: Sequence[Sequence[tuple[float, float]]], statistics: StatisticsSettings
) -> tuple[float | None, float | None]:
    import numpy as np

    if len(prompts) < _LEAST:
        return None, None
    random = np.random.default_rng(statistics.seed)
    drawn = random.integers(0, len(prompts), size=(statistics.resamples, len(prompts)))
    found = (_pearson([point for index in row for point in prompts[index]]) for row in drawn.tolist())
    values = [r for r in found if r is not None]
    if len(values) * 2 < statistics.resamples:
        return None, None
    tail = (1 - statistics.confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _mean_change(steps: Iterable[tuple[Curve, int]], statistics: StatisticsSettings) -> MeanChange | None:
    of_prompt: dict[str, list[Change]] = defaultdict(list)
    for curve, step in steps:
        change = change_at(curve, step, confidence=statistics.confidence)
        if change is not None:
            of_prompt[curve.prompt].append(change)
    before = [_mean(change.before.ratio for change in changes) for changes in of_prompt.values()]
    after = [_mean(change.after.ratio for change in changes) for changes in of_prompt.values()]
    interval = difference_interval(after, before, statistics)
    if interval is None:
        return None
    every = [change for changes in of_prompt.values() for change in changes]
    significant = [change.is_rise if interval.value > 0 else change.is_drop for change in every]
    return MeanChange(
        before=_mean(before),
        after=_mean(after),
        change=interval,
        n=len(every),
        num_significant=sum(significant),
    )


def _mean(values: Iterable[float]) -> float:
    held = list(values)
    return math.fsum(held) / len(held)
