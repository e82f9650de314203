"""What interventions yield: the paper's arithmetic, from the outcomes of one arm's units.

    pairs ≈ attempts × P(unsafe) × P(one replacement succeeds)

(methods.md §10 [D]: 6,000 × 0.6 × 0.4 ≈ 1,440, of which the paper reports 1,438.) Reports call it. Pure counting: a
unit's end says how far it came, since a unit that was cut at all carries the verdict on its sample.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tracemend.records import Outcome, OutcomeState

_UNDECIDED = frozenset({OutcomeState.CANCELLED, OutcomeState.DEAD})


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkYield:
    """Counts of (prompt, sample, trigger) units. Ratios are 0 where there is nothing to divide by."""

    num_attempts: int
    """Units whose sample was drawn and judged."""
    num_unsafe: int
    """Of these, those whose reasoning was to be mended."""
    num_cut: int
    """Of these, those with a cue to cut at, continued at least once."""
    num_by_round: tuple[int, ...]
    """Accepted forks, by the number of interventions that they took; the first entry is of one."""

    @property
    def num_corrected(self) -> int:
        return sum(self.num_by_round)

    @property
    def unsafe_share(self) -> float:
        """P(unsafe)."""
        return _share(self.num_unsafe, self.num_attempts)

    @property
    def first_share(self) -> float:
        """P(one replacement succeeds), of unsafe samples: those without a cue to cut at count as failures."""
        return _share(self.num_by_round[0] if self.num_by_round else 0, self.num_unsafe)

    @property
    def expected_pairs(self) -> float:
        """The product: what one replacement per attempt gives."""
        return self.num_attempts * self.unsafe_share * self.first_share

    def remaining(self, num_rounds: int) -> tuple[float, ...]:
        """Share of the cut traces that no fork of theirs was accepted for after 0, 1, … `num_rounds` replacements."""
        accepted = [sum(self.num_by_round[:number]) for number in range(num_rounds + 1)]
        return tuple(1.0 - _share(number, self.num_cut) if self.num_cut else 0.0 for number in accepted)


def fork_yield(outcomes: Iterable[Outcome]) -> ForkYield:
    """The yield of an arm's units that have a trigger; its other units (benign prompts, tasks) are left out."""
    num_attempts = num_unsafe = num_cut = 0
    rounds: Counter[int] = Counter()
    for outcome in outcomes:
        if not outcome.unit.variant or (outcome.state in _UNDECIDED and outcome.original is None):
            continue
        num_attempts += 1
        num_unsafe += outcome.state is not OutcomeState.NOT_SELECTED
        num_cut += outcome.original is not None
        if outcome.state is OutcomeState.CORRECTED:
            assert outcome.final is not None, "what is corrected has a trajectory to train on"
            rounds[outcome.final.trajectory.round] += 1
    by_round = tuple(rounds[number] for number in range(1, max(rounds, default=0) + 1))
    return ForkYield(num_attempts=num_attempts, num_unsafe=num_unsafe, num_cut=num_cut, num_by_round=by_round)


def yield_by_trigger(outcomes: Iterable[Outcome]) -> dict[str, ForkYield]:
    """The same for each trigger: which sentences hold, and which do not."""
    groups: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.unit.variant:
            groups[outcome.unit.variant].append(outcome)
    return {trigger: fork_yield(groups[trigger]) for trigger in sorted(groups)}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
