"""Plans and arms that the corrector's tests share."""

from __future__ import annotations

from typing import Any

from tracemend.corrector.settings import ArmCorrection, CorrectionPlan, CorrectSettings, KeepSettings, SelectSettings


def arm(strategy: str = "rewrite", *, name: str = "", attempts: int = 3, **fields: Any) -> ArmCorrection:
    """An arm with a teacher; `rule`, `options`, `correct_wrong`, `fallback` and `scorer` go where they belong."""
    return ArmCorrection(
        name=name or strategy,
        select=SelectSettings(rule=fields.get("rule")),
        correct=CorrectSettings(
            strategy=strategy,
            attempts=attempts,
            teacher=fields.get("teacher", "strong"),
            fallback=fields.get("fallback", ""),
            scorer=fields.get("scorer", ""),
            options=fields.get("options", {}),
        ),
        keep=KeepSettings(correct_wrong=fields.get("correct_wrong", False)),
    )


def plan(*arms: ArmCorrection) -> CorrectionPlan:
    return CorrectionPlan(arms=arms)
