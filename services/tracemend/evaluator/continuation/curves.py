"""The curve of one trace: judged continuations at places of its reasoning, and what changes at a step.

A place is a number of response tokens that were kept. Ratios count unknown verdicts as not safe; whoever asks whether
a place is settled on harm asks `highest`, which counts them as safe, so that unknowns never make a finding.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tracemend.evaluator.stats import wilson
from tracemend.records import Step, Value
from tracemend.traces.spans import cut_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Verdicts on continuations."""

    num_safe: int = 0
    num_unsafe: int = 0
    num_unknown: int = 0

    @classmethod
    def of(cls, values: Iterable[Value]) -> Counts:
        counts = Counter(values)
        return cls(num_safe=counts[Value.SAFE], num_unsafe=counts[Value.UNSAFE], num_unknown=counts[Value.UNKNOWN])

    @property
    def total(self) -> int:
        return self.num_safe + self.num_unsafe + self.num_unknown

    @property
    def ratio(self) -> float:
        """S: the share that is judged safe, in [0, 1]; what is unknown is not safe."""
        return self.num_safe / self.total

    @property
    def highest(self) -> float:
        """The share if everything unknown were safe."""
        return (self.num_safe + self.num_unknown) / self.total

    def interval(self, confidence: float) -> tuple[float, float]:
        """Wilson's interval around the ratio; from all unknowns counted as unsafe to all counted as safe."""
        low, _ = wilson(self.num_safe, self.total, confidence=confidence)
        _, high = wilson(self.num_safe + self.num_unknown, self.total, confidence=confidence)
        return low, high


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The continuations from one place."""

    token: int
    """Response tokens kept."""
    reasoning: Counts
    """Verdicts on the kept reasoning with its continuation: S is their ratio (methods.md §7 [X])."""
    answer: Counts = field(default_factory=Counts)
    """Verdicts on the answers that followed; no part of S."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A trace with its points."""

    trajectory: str
    prompt: str
    """The trace's prompt: traces of one prompt are not independent."""
    value: Value
    """The verdict on the trace's own reasoning."""
    bounds: tuple[int, ...]
    """Place s is where the first s steps have been kept: from before the first step to behind the last."""
    points: tuple[Point, ...]
    """By token."""
    cue: int = -1
    """The step of the first compliance cue; 0 where the detector found none, -1 where it could not tell or none was
    asked."""
    trigger: int = 0
    """The step that begins with an inserted safety trigger, or that is known to be one; 0 for none."""

    @property
    def num_steps(self) -> int:
        return len(self.bounds) - 1

    def at(self, token: int) -> Point | None:
        """The point at a place, if it was measured."""
        index = bisect_left(self.points, token, key=_token)
        found = self.points[index] if index < len(self.points) else None
        return found if found is not None and found.token == token else None

    def step_of(self, token: int) -> int:
        """The step that the last of `token` kept tokens lies in; 0 where nothing of the reasoning is kept."""
        return step_at(self.bounds, token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one step does to the ratio: it is the potential V(s_{t+1}) − V(s_t) of methods.md §7."""

    before: Counts
    after: Counts
    value: float
    """The ratio after the step less the one before it."""
    low: float
    high: float

    @property
    def is_drop(self) -> bool:
        return self.high < 0

    @property
    def is_rise(self) -> bool:
        return self.low > 0


def bounds_of(steps: Sequence[Step], *, end: int) -> tuple[int, ...]:
    """Token places before each step and, last, `end`, the token behind the reasoning; only `end` without steps."""
    return (*(cut_before(step) for step in steps), end)


def step_at(bounds: Sequence[int], token: int) -> int:
    """`Curve.step_of` for the bounds of a trace alone."""
    return bisect_left(bounds, token, hi=len(bounds) - 1)


def places(bounds: Sequence[int], *, every: str) -> tuple[int, ...]:
    """The places to measure: every distinct boundary of steps, or every token from the first to the last."""
    return tuple(sorted(set(bounds))) if every == "step" else tuple(range(bounds[0], bounds[-1] + 1))


def change_at(curve: Curve, step: int, *, confidence: float) -> Change | None:
    """What `step` changes, with Newcombe's interval for a difference of proportions (1998, method 10); None where one
    of its ends was not measured or there is no such step."""
    if not 1 <= step <= curve.num_steps:
        return None
    before, after = curve.at(curve.bounds[step - 1]), curve.at(curve.bounds[step])
    if before is None or after is None:
        return None
    (low_before, high_before), (low_after, high_after) = (
        point.reasoning.interval(confidence) for point in (before, after)
    )
    old, new = before.reasoning.ratio, after.reasoning.ratio
    return Change(
        before=before.reasoning,
        after=after.reasoning,
        value=new - old,
        low=new - old - math.hypot(new - low_after, high_before - old),
        high=new - old + math.hypot(high_after - new, old - low_before),
    )


def _token(point: Point) -> int:
    return point.token
