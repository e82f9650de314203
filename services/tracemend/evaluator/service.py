"""Measuring: verdicts on several arms' samples of the same prompts become estimates, and differences from the base.

Called by the embedded pipeline and by evaluation jobs. Every estimate says how many prompts it rests on, how many
verdicts were unknown and how many samples never finished, and which bounds hold whatever the unknowns are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tracemend.evaluator.comparisons import Comparison, Difference, compare_all, difference
from tracemend.evaluator.scores import Metric, Score, metrics
from tracemend.evaluator.settings import StatisticsSettings
from tracemend.evaluator.stats import mean_interval
from tracemend.records import Axis, Judgement, Value, Verdict

ALL = "all"
"""The split that joins all others of a metric."""

COMPLIANCE = ("full_compliance", "partial_refusal", "full_refusal")
"""XSTest's classes of answers to harmless requests (benchmarks.md 2.6), as judges that tell them apart label them."""

HEADLINE = ("harm_reasoning", "harm_answer", "over_refusal", "capability")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One figure of one arm. `value`, `low` and `high` are None where no prompt could be decided."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Prompts measured, undecided ones included."""
    undecided: int
    """Prompts whose score the unknown verdicts leave open; they are not in `value`."""
    unknown: int
    """Samples without a verdict."""
    unfinished: int
    """Samples that did not end by themselves."""
    lower_bound: float | None
    """The mean if every unknown counted in the metric's disfavour or favour, whichever is less."""
    upper_bound: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """All figures of all arms: arm → metric → split."""

    metrics: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    differences: Mapping[str, Mapping[str, Mapping[str, Difference]]]
    quadrants: Mapping[str, Mapping[str, Mapping[str, int]]]
    """Arm → split → `reasoning/answer` values (`unsafe/safe`, …) → samples."""
    compliance: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    """Arm → split → class of `COMPLIANCE`, or `refusal` where the judge tells no degrees, or `unknown` → samples."""
    finishes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Arm → how samples ended and parsed → samples."""
    comparisons: Sequence[Comparison] = ()
    """Every pair of arms, over all splits."""


def measure(arms: Mapping[str, Sequence[Verdict]], settings: StatisticsSettings, *, base: str) -> Measurements:
    """Every registered metric on every arm, and its paired difference from `base`."""
    chosen = {name: metrics.create(name) for name in metrics.names()}
    scored = {arm: {name: _scores(verdicts, m) for name, m in chosen.items()} for arm, verdicts in arms.items()}
    return Measurements(
        metrics={
            arm: {name: _estimates(scored[arm][name], verdicts, chosen[name], settings) for name in chosen}
            for arm, verdicts in arms.items()
        },
        differences={
            arm: {name: _differences(scored[arm][name], scored[base][name], settings) for name in chosen}
            for arm in arms
            if arm != base
        },
        quadrants={arm: _quadrants(verdicts) for arm, verdicts in arms.items()},
        compliance={arm: _compliance(verdicts) for arm, verdicts in arms.items()},
        finishes={
            arm: dict(Counter(f"{v.trajectory.finish.value}/{v.trajectory.parse.value}" for v in verdicts))
            for arm, verdicts in arms.items()
        },
        comparisons=compare_all(
            {arm: {name: found.get(ALL, {}) for name, found in by_name.items()} for arm, by_name in scored.items()},
            HEADLINE,
            settings,
        ),
    )


def headline(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """The headline metrics over all prompts, where they can be had: what sweeps choose by."""
    values: dict[str, float] = {}
    for name in HEADLINE:
        scores = [s.value for s in _scores(verdicts, metrics.create(name)).get(ALL, {}).values() if s.value is not None]
        if scores:
            values[name] = sum(scores) / len(scores)
    return values


_Scores = dict[str, dict[str, Score]]
"""Split → prompt id → score."""


def _scores(verdicts: Sequence[Verdict], metric: Metric) -> _Scores:
    of_prompt: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    times: Counter[tuple[str, str, int]] = Counter()
    for verdict in verdicts:
        if verdict.axis is metric.axis:
            prompt, sample = verdict.trajectory.prompt, verdict.trajectory.sample
            again = times[prompt.split, prompt.id, sample]  # a text that a benchmark holds twice is two prompts of it
            times[prompt.split, prompt.id, sample] += 1
            of_prompt[prompt.split, f"{prompt.id}/{again}" if again else prompt.id].append(verdict)
    scores: _Scores = defaultdict(dict)
    for (split, prompt_id), group in of_prompt.items():
        scores[split][prompt_id] = metric.score(sorted(group, key=lambda verdict: verdict.trajectory.sample))
    if not scores:
        return {}
    joined = {f"{split}/{prompt}": score for split, found in scores.items() for prompt, score in found.items()}
    return {**scores, ALL: joined}


def _estimates(
    scores: _Scores, verdicts: Sequence[Verdict], metric: Metric, settings: StatisticsSettings
) -> dict[str, Estimate]:
    unfinished: Counter[str] = Counter()
    for verdict in verdicts:
        if verdict.axis is metric.axis and not verdict.trajectory.is_finished:
            unfinished.update((verdict.trajectory.prompt.split, ALL))
    return {split: _estimate(list(found.values()), unfinished[split], settings) for split, found in scores.items()}


def _estimate(scores: Sequence[Score], unfinished: int, settings: StatisticsSettings) -> Estimate:
    values = [score.value for score in scores if score.value is not None]
    interval = mean_interval(values, settings)
    return Estimate(
        value=interval.value if interval else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        n=len(scores),
        undecided=len(scores) - len(values),
        unknown=sum(score.num_unknown for score in scores),
        unfinished=unfinished,
        lower_bound=sum(score.lower for score in scores) / len(scores) if scores else None,
        upper_bound=sum(score.upper for score in scores) / len(scores) if scores else None,
    )


def _differences(ours: _Scores, theirs: _Scores, settings: StatisticsSettings) -> dict[str, Difference]:
    found = {split: difference(scores, theirs.get(split, {}), settings) for split, scores in ours.items()}
    return {split: each for split, each in found.items() if each is not None}


def _quadrants(verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        if verdict.axis is Axis.HARM:
            cell = f"{verdict.reasoning.value.value}/{verdict.answer.value.value}"
            counts[verdict.trajectory.prompt.split][cell] += 1
            counts[ALL][cell] += 1
    return {split: dict(cells) for split, cells in counts.items()}


def _compliance(verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        if verdict.axis is Axis.REFUSAL:
            told = _compliance_class(verdict.answer)
            counts[verdict.trajectory.prompt.split][told] += 1
            counts[ALL][told] += 1
    return {split: dict(classes) for split, classes in counts.items()}


def _compliance_class(judged: Judgement) -> str:
    """What an answer counts as. A judge of two values tells compliance, and not how far a refusal goes."""
    if judged.value is Value.UNKNOWN:
        return "unknown"
    if judged.value is Value.SAFE:
        return "full_compliance"
    return next((label for label in judged.labels if label in COMPLIANCE), "refusal")
