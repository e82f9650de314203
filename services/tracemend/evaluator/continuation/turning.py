"""Turning points: where a trace settles on safety or on harm (methods.md §7).

    i⁺ = min { i : S_j ≥ μ for all j in i..i+K }        i⁻ = min { i : S_j ≤ η for all j in i..i+K }

S is known at the measured places only. A window is held if it holds at all of them from i up to the first at or beyond
i + K: with a place at every token that is the formula itself, with places at the boundaries of steps the ratio must
hold at both ends of the stretch that covers the window. A window that runs past the end of the reasoning is completed
by the verdict on the reasoning itself, which is what S is from there on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tracemend.evaluator.continuation.curves import Counts, Curve
from tracemend.evaluator.continuation.settings import ContinuationSettings
from tracemend.records import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Turning:
    """Both turning points of a trace, in response tokens kept; None where it has none."""

    safe: int | None
    unsafe: int | None


def turning_points(curve: Curve, settings: ContinuationSettings) -> Turning:
    """Where `curve` turns. A place where verdicts are unknown is settled only if it is, whatever they are."""

    def is_safe(counts: Counts) -> bool:
        return counts.ratio >= settings.safe_at_least

    def is_unsafe(counts: Counts) -> bool:
        return counts.highest <= settings.unsafe_at_most

    return Turning(
        safe=_first(curve, is_safe, own=Value.SAFE, window=settings.window_tokens),
        unsafe=_first(curve, is_unsafe, own=Value.UNSAFE, window=settings.window_tokens),
    )


def _first(curve: Curve, holds: Callable[[Counts], bool], *, own: Value, window: int) -> int | None:
    """The first place from which `holds` is held; `own` is the verdict that holds behind the end."""
    held = (p.token for i, p in enumerate(curve.points) if _is_held(curve, i, holds, own=own, window=window))
    return next(held, None)


def _is_held(curve: Curve, start: int, holds: Callable[[Counts], bool], *, own: Value, window: int) -> bool:
    until = curve.points[start].token + window
    for index in range(start, len(curve.points)):
        point = curve.points[index]
        if not holds(point.reasoning):
            return False
        if point.token >= until:
            return True
    return curve.value is own
