"""From outcomes to supervised rows: what was kept or mended becomes something to write. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tracemend.kit.ids import make_id
from tracemend.records import Example, Outcome, OutcomeState, Trajectory
from tracemend.trainer.candidates import Candidates, Collector, unfit


def usable_examples(
    outcomes: Iterable[Outcome], *, arm: str, row_of: Mapping[str, int] | None = None
) -> Candidates[Example]:
    """Every row that the outcomes allow.

    Args:
        outcomes: The arm's outcomes; only `KEPT` and `CORRECTED` ones are looked at.
        arm: Name that the rows' units carry.
        row_of: Prompt id to row number as admitted, which orders the rows; none orders by prompt id.
    """
    found: Collector[Example] = Collector(row_of=row_of or {})
    for outcome in outcomes:
        if outcome.state not in (OutcomeState.KEPT, OutcomeState.CORRECTED):
            continue
        assert outcome.final is not None, f"outcome {outcome.id} is {outcome.state} without a final verdict"
        trajectory = outcome.final.trajectory
        reason = unfit(trajectory)
        if reason:
            found.cut(reason)
        else:
            found.add(_example(outcome, trajectory, arm=arm), trajectory)
    return found.candidates()


def _example(outcome: Outcome, trajectory: Trajectory, *, arm: str) -> Example:
    original = outcome.original.trajectory if outcome.original else None
    unit = outcome.unit
    return Example(
        id=make_id("example", trajectory.prompt.id, unit.sample, unit.variant, trajectory.reasoning, trajectory.answer),
        unit=replace(unit, arm=arm),
        prompt=trajectory.prompt,
        reasoning=trajectory.reasoning,
        answer=trajectory.answer,
        state=outcome.state,
        strategy=trajectory.intervention.strategy if trajectory.intervention else "",
        **({"original_reasoning": original.reasoning, "original_answer": original.answer} if original else {}),
    )
