"""How rows and units flowed through the run, and what that took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tracemend.evaluator.report.input import ReportInput
from tracemend.kit.ports import Cost
from tracemend.records import OutcomeState

_ACCEPTED = (OutcomeState.KEPT.value, OutcomeState.CORRECTED.value)


def build_funnel(facts: ReportInput) -> dict[str, Any]:
    """Rows received → admitted → units by outcome and reason, per owner of units → dataset rows, per arm."""
    return {
        "received": facts.num_admitted + facts.num_refused,
        "admitted": facts.num_admitted,
        "refused": facts.num_refused,
        "refused_reasons": dict(sorted(facts.refused_reasons.items(), key=lambda item: (-item[1], item[0]))),
        "worked": {cost.stage: cost.num_items for cost in facts.costs},
        "arms": {arm: _arm(facts, arm, owner) for arm, owner in facts.owners.items()},
    }


def _arm(facts: ReportInput, arm: str, owner: str) -> dict[str, Any]:
    states: dict[str, dict[str, int]] = defaultdict(dict)
    for (of, state, reason), num_units in sorted(facts.outcomes.items()):
        if of == owner:
            states[state][reason] = num_units
    totals: dict[str, int] = {
        state.value: sum(states[state.value].values()) for state in OutcomeState if state.value in states
    }
    planned = facts.units.get(owner, 0)
    manifest = facts.manifests.get(arm)
    counts = manifest.counts if manifest else {}
    return {
        "owner": owner,
        "units": planned,
        "open": planned - sum(totals.values()),
        "states": totals,
        "reasons": {state: dict(sorted(states[state].items(), key=lambda item: -item[1])) for state in totals},
        "accepted": sum(totals.get(state, 0) for state in _ACCEPTED),
        "rows": manifest.num_rows if manifest else None,
        "cut": {name.removeprefix("cut/"): n for name, n in sorted(counts.items()) if name.startswith("cut/") and n},
    }


def build_cost(facts: ReportInput) -> dict[str, Any]:
    """Tokens, seconds and money per stage, and what the whole run took per accepted row.

    Accepted rows are the kept and corrected units, each counted once however many arms share them; measuring is part
    of what the run took.
    """
    stages = [_stage(cost) for cost in facts.costs]
    total = {name: sum(stage[name] for stage in stages) for name in ("prompt_tokens", "new_tokens", "money")}
    accepted = sum(n for (_, state, _), n in facts.outcomes.items() if state in _ACCEPTED)
    whole = {**total, "seconds": facts.total_s}
    return {
        "stages": stages,
        "training": _training(facts),
        "total": whole,
        "accepted_rows": accepted,
        "per_accepted_row": {name: amount / accepted for name, amount in whole.items()} if accepted else None,
        "is_paid": total["money"] > 0,
    }


def _training(facts: ReportInput) -> dict[str, float] | None:
    """Steps, tokens and seconds of the checkpoints that the arms use, as far as their trainers recorded them."""
    checkpoints = facts.checkpoints.values()
    if not checkpoints:
        return None
    recorded = {name: sum(c.metrics.get(name, 0.0) for c in checkpoints) for name in ("tokens", "seconds")}
    return {"steps": sum(c.step for c in checkpoints), **recorded}


def _stage(cost: Cost) -> dict[str, Any]:
    return {
        "stage": cost.stage,
        "items": cost.num_items,
        "prompt_tokens": cost.num_prompt_tokens,
        "cached_tokens": cost.num_cached_tokens,
        "new_tokens": cost.num_new_tokens,
        "seconds": cost.seconds,
        "money": cost.money,
    }


def shares(counts: Mapping[str, int], order: Sequence[str]) -> list[tuple[str, int]]:
    """`counts` in `order`, then whatever else it holds; nothing is dropped."""
    known = [(name, counts[name]) for name in order if counts.get(name)]
    return known + [(name, n) for name, n in sorted(counts.items()) if name not in order and n]
