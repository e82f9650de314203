"""What a run took: by stage, by how its units ended, in all, and for each row that it gained.

Called by `tracemend costs`. Stages come from the ledger's own sums. Outcomes are attributed by lineage: a trajectory
was made for the units of its prompt and sample, a mended one for those whose strategy and variant asked for it, and
what several units share is divided evenly among them. Judging is attributed by trajectory, at the stage's mean. Work
that another run paid for and this one found again costs nothing. What no unit's lineage holds (measuring, work that was
thrown away) stays apart, so that everything adds up to the stages.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from tracemend.embedded.budget import WALL
from tracemend.embedded.plan import Plan
from tracemend.kit.ports import Cost, Ledger
from tracemend.kit.prices import Price, price_of
from tracemend.kit.results import Results
from tracemend.records import OutcomeState, Trajectory, Unit, Verdict

_JUDGE = "judge"
"""The judges' stage: verdicts say nothing of what they took."""
_ACCEPTED = frozenset({OutcomeState.KEPT.value, OutcomeState.CORRECTED.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Work, in what it takes. Cached tokens are part of the prompt's."""

    prompt_tokens: float = 0
    cached_tokens: float = 0
    new_tokens: float = 0
    seconds: float = 0.0
    money: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def __sub__(self, other: Amount) -> Amount:
        return self + other.times(-1)

    def times(self, factor: float) -> Amount:
        """The amount `factor` times."""
        return Amount(**{f.name: getattr(self, f.name) * factor for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """What one stage took. `money` is what engines asked for or, where they asked for none, what the price says."""

    stage: str
    num_items: int
    amount: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeCost:
    """What the units took that ended in one way."""

    arm: str
    state: str
    reason: str
    num_units: int
    amount: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCosts:
    """The whole account: `stages` add up to `total`, and so do `outcomes` and `unattributed`."""

    run: str
    stages: tuple[StageCost, ...]
    outcomes: tuple[OutcomeCost, ...]
    unattributed: Amount
    """Of no unit's lineage."""
    total: Amount
    wall_s: float
    accepted_rows: int
    per_accepted_row: Amount | None
    """None where no row was gained."""


@dataclass(slots=True)
class _Lineage:
    """The units of a prompt, and what has been attributed to each."""

    units: list[tuple[Unit, str, str]] = field(default_factory=list)
    amounts: defaultdict[int, Amount] = field(default_factory=lambda: defaultdict(Amount))

    def attribute(self, trajectory: Trajectory, amount: Amount, strategies: Mapping[str, str]) -> None:
        """Divide `amount` among the units that `trajectory` was made for."""
        near = [place for place, (unit, _, _) in enumerate(self.units) if _may_be_of(unit, trajectory)]
        asked = [place for place in near if _asked_for(self.units[place][0], trajectory, strategies)]
        whose = asked or near  # solutions are written beside the arm's own strategy
        for place in whose:
            self.amounts[place] += amount.times(1 / len(whose))


async def costs_of(
    ledger: Ledger, results: Results, *, run: str, plan: Plan, prices: Mapping[str, Price] | None = None
) -> RunCosts:
    """The account of `run`. `prices`, by stage (or `default`), price the stages whose engines asked for no money."""
    booked = await ledger.costs(run)
    stages = tuple(_stage(cost, prices or {}) for cost in booked if cost.stage != WALL)
    lineages: defaultdict[str, _Lineage] = defaultdict(_Lineage)
    async for ended in ledger.outcomes(run):
        lineages[ended.unit.prompt].units.append((ended.unit, ended.state, ended.reason))
    strategies = {arm: s.correct.strategy for arm, s in plan.run.arms.items() if s.correct is not None}
    by_stage = {stage.stage: stage for stage in stages}
    judging = _mean(by_stage[_JUDGE]) if _JUDGE in by_stage else Amount()
    async for _, address in ledger.work(paid_by=run):
        for _, record in await results.read(address):
            trajectory = record.trajectory if isinstance(record, Verdict) else record
            if isinstance(trajectory, Trajectory) and trajectory.prompt.id in lineages:
                amount = judging if isinstance(record, Verdict) else _of_trajectory(trajectory, prices or {})
                lineages[trajectory.prompt.id].attribute(trajectory, amount, strategies)
    return _account(run, stages, lineages.values(), wall_s=sum(c.seconds for c in booked if c.stage == WALL))


def _account(run: str, stages: Sequence[StageCost], lineages: Iterable[_Lineage], *, wall_s: float) -> RunCosts:
    amounts: defaultdict[tuple[str, str, str], Amount] = defaultdict(Amount)
    numbers: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for lineage in lineages:
        for place, (unit, state, reason) in enumerate(lineage.units):
            amounts[unit.arm, state, reason] += lineage.amounts[place]
            numbers[unit.arm, state, reason] += 1
    outcomes = tuple(
        OutcomeCost(arm=ending[0], state=ending[1], reason=ending[2], num_units=numbers[ending], amount=amounts[ending])
        for ending in sorted(numbers)
    )
    total = sum((stage.amount for stage in stages), Amount())
    accepted = sum(one.num_units for one in outcomes if one.state in _ACCEPTED)
    return RunCosts(
        run=run,
        stages=tuple(stages),
        outcomes=outcomes,
        unattributed=total - sum((one.amount for one in outcomes), Amount()),
        total=total,
        wall_s=wall_s,
        accepted_rows=accepted,
        per_accepted_row=total.times(1 / accepted) if accepted else None,
    )


def _may_be_of(unit: Unit, trajectory: Trajectory) -> bool:
    """Whether `trajectory`, of the unit's prompt, is of the unit's sample and variant."""
    made = trajectory.intervention
    return unit.sample in (-1, trajectory.sample) and (made is None or unit.variant in ("", made.variant))


def _asked_for(unit: Unit, trajectory: Trajectory, strategies: Mapping[str, str]) -> bool:
    made = trajectory.intervention
    return made is None or strategies.get(unit.arm) == made.strategy


def _stage(cost: Cost, prices: Mapping[str, Price]) -> StageCost:
    amount = Amount(
        prompt_tokens=cost.num_prompt_tokens,
        cached_tokens=cost.num_cached_tokens,
        new_tokens=cost.num_new_tokens,
        seconds=cost.seconds,
        money=cost.money,
    )
    return StageCost(stage=cost.stage, num_items=cost.num_items, amount=_priced(amount, price_of(prices, cost.stage)))


def _of_trajectory(trajectory: Trajectory, prices: Mapping[str, Price]) -> Amount:
    amount = Amount(
        prompt_tokens=trajectory.num_prompt_tokens,
        cached_tokens=trajectory.num_cached_tokens,
        new_tokens=trajectory.num_new_tokens,
        seconds=trajectory.seconds,
        money=trajectory.money,
    )
    is_sampled = trajectory.intervention is None or trajectory.intervention.kind == "trigger"
    return _priced(amount, price_of(prices, "generator" if is_sampled else "teacher"))


def _priced(amount: Amount, price: Price | None) -> Amount:
    if price is None or amount.money:
        return amount
    money = price.of(
        num_prompt_tokens=int(amount.prompt_tokens),
        num_cached_tokens=int(amount.cached_tokens),
        num_new_tokens=int(amount.new_tokens),
        seconds=amount.seconds,
    )
    return amount + Amount(money=money)


def _mean(stage: StageCost) -> Amount:
    return stage.amount.times(1 / stage.num_items) if stage.num_items else Amount()
