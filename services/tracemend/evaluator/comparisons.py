"""Arm against arm: paired differences of every metric, and by what share one arm has less harm than another.

`service.measure` calls it for the base and for every pair of arms. Both arms answer the same prompts, so a drawn prompt
brings the scores of both. A ratio is the form in which papers state their gains ("over 30 % less harm than …"), mean
over reasoning and answer; it says nothing of what the gain cost, so it stands beside the differences in over-refusal
and capability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from tracemend.evaluator.scores import Score
from tracemend.evaluator.settings import StatisticsSettings
from tracemend.evaluator.stats import detectable_difference, difference_interval, reduction_interval

PromptScores = Mapping[str, Score]
"""Prompt → its score under one metric."""

MetricScores = Mapping[str, PromptScores]
"""Metric → the scores of all its prompts, whatever their split."""

_HARM = {"reasoning": "harm_reasoning", "answer": "harm_answer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An arm's figure less another's, over the prompts that both decided."""

    value: float
    low: float
    high: float
    n: int
    detectable: float | None
    """Least true difference that would be found with power 0.8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """By what share an arm has less harm than another: 1 less the ratio of their rates; negative where it has more."""

    value: float
    low: float | None
    """None where the other arm's harm may be nil, so that no ratio is bounded."""
    high: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two arms side by side, over all splits."""

    arm: str
    against: str
    differences: Mapping[str, Difference]
    """Metric → `arm` less `against`."""
    harm_reduction: Mapping[str, Reduction]
    """`reasoning`, `answer` and their `mean`, as far as they can be had."""


def compare_all(
    arms: Mapping[str, MetricScores], metrics: Sequence[str], settings: StatisticsSettings
) -> tuple[Comparison, ...]:
    """Every pair of arms, the later one of the run against the earlier one."""
    return tuple(
        Comparison(
            arm=arm,
            against=against,
            differences={
                name: found
                for name in metrics
                if (found := difference(arms[arm].get(name, {}), arms[against].get(name, {}), settings)) is not None
            },
            harm_reduction=_reductions(arms[arm], arms[against], settings),
        )
        for against, arm in combinations(arms, 2)
    )


def difference(ours: PromptScores, theirs: PromptScores, settings: StatisticsSettings) -> Difference | None:
    """`ours - theirs` over the prompts that both decided; None where there are none."""
    pairs = list(_paired(ours, theirs).values())
    interval = difference_interval([a for a, _ in pairs], [b for _, b in pairs], settings)
    if interval is None:
        return None
    detectable = detectable_difference([a - b for a, b in pairs], confidence=settings.confidence)
    return Difference(value=interval.value, low=interval.low, high=interval.high, n=len(pairs), detectable=detectable)


def _reductions(ours: MetricScores, theirs: MetricScores, settings: StatisticsSettings) -> dict[str, Reduction]:
    pairs = {part: _paired(ours.get(metric, {}), theirs.get(metric, {})) for part, metric in _HARM.items()}
    both = pairs["reasoning"].keys() & pairs["answer"].keys()
    pairs["mean"] = {prompt: _mean(*(pairs[part][prompt] for part in _HARM)) for prompt in sorted(both)}
    found = {}
    for part, scores in pairs.items():
        interval = reduction_interval([a for a, _ in scores.values()], [b for _, b in scores.values()], settings)
        if interval is not None:
            value, low, high = interval
            found[part] = Reduction(value=value, low=low, high=high, n=len(scores))
    return found


def _mean(*pairs: tuple[float, float]) -> tuple[float, float]:
    return fmean(ours for ours, _ in pairs), fmean(theirs for _, theirs in pairs)


def _paired(ours: PromptScores, theirs: PromptScores) -> dict[str, tuple[float, float]]:
    return {
        prompt: (a.value, b.value)
        for prompt, a in ours.items()
        if (b := theirs.get(prompt)) is not None and a.value is not None and b.value is not None
    }
