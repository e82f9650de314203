"""Figures with intervals: over the prompts of one seed, and over base seeds.

Over prompts they are the evaluator's own (paired where two arms answer the same prompts). Over seeds they are Student's
t-intervals of the seeds' figures: seeds differ in base model, prompts and draws, so their spread holds all of these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from tracemend.evaluator.settings import StatisticsSettings
from tracemend.evaluator.stats import Interval, difference_interval, mean_interval

Scores = Mapping[tuple[str, str], float]
"""(split, prompt id) → the prompt's score; prompts that unknown verdicts leave open are not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A value with its interval; `low` and `high` are the value itself where there is nothing to draw from."""

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> Figure:
        """A count: no interval."""
        return cls(value=value, low=value, high=value)


def mean_of(scores: Scores, splits: Sequence[str] | None, *, confidence: float = 0.95) -> Figure:
    """The mean score over the prompts of `splits`; None for all of them."""
    return _figure(mean_interval(list(_of(scores, splits).values()), StatisticsSettings(confidence=confidence)))


def paired_difference(
    ours: Scores, theirs: Scores, splits: Sequence[str] | None, *, confidence: float = 0.95
) -> Figure:
    """Mean of `ours - theirs` over the prompts of `splits` that both have a score for."""
    ours, theirs = _of(ours, splits), _of(theirs, splits)
    both = [key for key in ours if key in theirs]
    settings = StatisticsSettings(confidence=confidence)
    return _figure(difference_interval([ours[key] for key in both], [theirs[key] for key in both], settings))


def unpaired_difference(ours: Figure, theirs: Figure) -> Figure:
    """`ours - theirs` for figures of different prompts: Newcombe's square-and-add interval (1998, method 10)."""
    value = ours.value - theirs.value
    below = math.hypot(ours.value - ours.low, theirs.high - theirs.value)
    above = math.hypot(ours.high - ours.value, theirs.value - theirs.low)
    return Figure(value=value, low=value - below, high=value + above)


def averaged(*scores: Scores) -> dict[tuple[str, str], float]:
    """Per prompt, the mean of several arms' scores, over the prompts that all of them have."""
    common = set.intersection(*(set(each) for each in scores))
    return {key: fmean(each[key] for each in scores) for key in sorted(common)}


def over_seeds(values: Sequence[float], *, confidence: float = 0.95) -> Figure:
    """The mean of the seeds' values with its t-interval; at least two seeds."""
    assert len(values) > 1, "one seed has no spread"
    from scipy.stats import t  # type: ignore[import-untyped]  # scipy ships no types

    value = fmean(values)
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Figure(value=value, low=value - half, high=value + half)


def _of(scores: Scores, splits: Sequence[str] | None) -> Scores:
    return scores if splits is None else {key: score for key, score in scores.items() if key[0] in splits}


def _figure(interval: Interval | None) -> Figure:
    assert interval is not None, "a figure needs at least one prompt with a score"
    return Figure(value=interval.value, low=interval.low, high=interval.high)
