"""Intervals for means over prompts and for paired differences of them.

Scores are per prompt, in [0, 1]. Where all of them are 0 or 1 the Wilson score interval is used; otherwise prompts are
drawn with replacement (percentile bootstrap, seeded). Differences are paired: both arms answer the same prompts, and a
drawn prompt brings both of its scores.

The bootstrap draws from the prompts and two more, one at each end of the scale: with few prompts, or nearly all of
them alike, a plain bootstrap knows no value that it has not seen and covers far less than it says (down to a third at
n = 15). The two are the idea of Agresti and Min's interval for paired proportions (2005), carried over to scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from tracemend.evaluator.settings import StatisticsSettings

_POWER = 0.8
_CELLS = 4_000_000
"""Drawn scores held at once: the bootstrap of a large set goes in slices of this size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and its interval."""

    value: float
    low: float
    high: float


def mean_interval(scores: Sequence[float], settings: StatisticsSettings) -> Interval | None:
    """The mean of per-prompt scores with its interval; None for no scores."""
    if not scores:
        return None
    value = math.fsum(scores) / len(scores)
    if all(score in (0.0, 1.0) for score in scores):
        low, high = wilson(sum(score == 1.0 for score in scores), len(scores), confidence=settings.confidence)
    else:
        low, high = _bootstrap([*scores, 0.0, 1.0], settings)
    return Interval(value=value, low=min(low, value), high=max(high, value))


def difference_interval(
    ours: Sequence[float], theirs: Sequence[float], settings: StatisticsSettings
) -> Interval | None:
    """Mean of `ours - theirs` over the same prompts, with its interval; None for no prompts.

    Without a single prompt that differs, the interval is the rule of three: at most -ln(0.05)/n ≈ 3/n of the prompts
    may differ.
    """
    assert len(ours) == len(theirs), "differences are paired by prompt"
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    if not differences:
        return None
    value = math.fsum(differences) / len(differences)
    if not any(differences):
        bound = min(1.0, -math.log(1 - settings.confidence) / len(differences))
        return Interval(value=0.0, low=-bound, high=bound)
    low, high = _bootstrap([*differences, -1.0, 1.0], settings)
    return Interval(value=value, low=min(low, value), high=max(high, value))


def reduction_interval(
    ours: Sequence[float], theirs: Sequence[float], settings: StatisticsSettings
) -> tuple[float, float | None, float] | None:
    """1 less the ratio of the means of `ours` and `theirs` over the same prompts: (value, low, high).

    None where `theirs` is nil; `low` is None where drawn prompts may make it nil. The bootstrap draws pairs, and two
    more in which the arms are opposed, for the reason that this module begins with.
    """
    assert len(ours) == len(theirs), "reductions are paired by prompt"
    if math.fsum(theirs) <= 0:
        return None
    import numpy as np

    value = 1 - math.fsum(ours) / math.fsum(theirs)
    drawn = _drawn_means([[*ours, 0.0, 1.0], [*theirs, 1.0, 0.0]], settings)
    # A ratio over nothing is harm that has grown beyond any bound, or none on either side.
    ratios = np.divide(drawn[0], drawn[1], out=np.where(drawn[0] > 0, np.inf, 1.0), where=drawn[1] > 0)
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(1 - ratios, [tail, 1 - tail], method="inverted_cdf")
    return value, min(float(low), value) if np.isfinite(low) else None, max(float(high), value)


def wilson(num_hits: int, num_trials: int, *, confidence: float) -> tuple[float, float]:
    """Wilson's score interval (1927) for a proportion; `num_trials` is at least 1."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = num_hits / num_trials
    scale = 1 + z * z / num_trials
    centre = (share + z * z / (2 * num_trials)) / scale
    half = z * math.sqrt(share * (1 - share) / num_trials + z * z / (4 * num_trials * num_trials)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def detectable_difference(differences: Sequence[float], *, confidence: float) -> float | None:
    """The least true difference that a test at `confidence` finds with power 0.8, given the spread that was seen.

    The spread counts the same two added prompts as the intervals, so prompts that all agree do not promise that any
    difference would have been found. None for no prompts; at most 1.
    """
    if not differences:
        return None
    spread = [*differences, -1.0, 1.0]
    mean = math.fsum(spread) / len(spread)
    variance = math.fsum((d - mean) ** 2 for d in spread) / (len(spread) - 1)
    z = NormalDist().inv_cdf((1 + confidence) / 2) + NormalDist().inv_cdf(_POWER)
    return min(1.0, z * math.sqrt(variance / len(spread)))


def adjusted_rate(rate: float, *, sensitivity: float, specificity: float) -> float | None:
    """Rogan and Gladen's estimate of the true rate behind a judge's; None for a judge no better than chance."""
    skill = sensitivity + specificity - 1
    return min(1.0, max(0.0, (rate + specificity - 1) / skill)) if skill > 0 else None


def _bootstrap(scores: Sequence[float], settings: StatisticsSettings) -> tuple[float, float]:
    import numpy as np

    (means,) = _drawn_means([scores], settings)
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _drawn_means(series: Sequence[Sequence[float]], settings: StatisticsSettings) -> Any:
    """The means of each of `series` over prompts drawn with replacement, the same ones for all: (series, resamples)."""
    import numpy as np

    values = np.asarray(series, dtype=np.float64)
    num_prompts = values.shape[1]
    random = np.random.default_rng(settings.seed)
    means = np.empty((len(series), settings.resamples))
    rows = max(1, _CELLS // num_prompts)
    for start in range(0, settings.resamples, rows):
        count = min(rows, settings.resamples - start)
        drawn = random.integers(0, num_prompts, size=(count, num_prompts))
        means[:, start : start + count] = values[:, drawn].mean(axis=2)
    return means
