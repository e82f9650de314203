"""What interventions yielded in a run: the paper's arithmetic from the run's own outcomes, for its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracemend.corrector.strategies.intervene import Intervene
from tracemend.corrector.strategy import strategies
from tracemend.corrector.yields import ForkYield, fork_yield, yield_by_trigger
from tracemend.embedded.arms import Arms
from tracemend.embedded.plan import Plan


async def yields_of(arms: Arms, plan: Plan) -> dict[str, Mapping[str, Any]]:
    """Arm that owns units with triggers → its yield, in all and by trigger; plain values."""
    found: dict[str, Mapping[str, Any]] = {}
    for arm in dict.fromkeys(plan.owners.values()):
        correct = plan.run.arms[arm].correct
        if correct is None or strategies.get(correct.strategy) is not Intervene:
            continue
        outcomes = await arms.outcomes(arm)
        by_trigger = {name: _plain(each) for name, each in yield_by_trigger(outcomes).items()}
        found[arm] = {**_plain(fork_yield(outcomes)), "triggers": by_trigger}
    return found


def _plain(made: ForkYield) -> dict[str, Any]:
    return {
        "attempts": made.num_attempts,
        "unsafe": made.num_unsafe,
        "cut": made.num_cut,
        "by_round": list(made.num_by_round),
        "corrected": made.num_corrected,
        "unsafe_share": made.unsafe_share,
        "first_share": made.first_share,
        "expected_pairs": made.expected_pairs,
    }
