"""What a claim is: a statement, its figure for one seed, and when it is met.

`planted`: the world was built to show it. `emergent`: it was not, and comes of the method. `identity`: true by
construction of the data or by algebra, and broken only by a fault of ours. Claims without a criterion are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from benchmarks.fidelity.criteria import Criterion
from benchmarks.fidelity.figures import Figure, over_seeds

from tracemend.kit.ids import digest_of

E = TypeVar("E")
"""What a run of one seed shows."""


class Nature(StrEnum):
    """Why a figure is as it is."""

    PLANTED = "planted"
    EMERGENT = "emergent"
    IDENTITY = "identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(Generic[E]):
    """One statement, its figure for one seed, and when it is met."""

    key: str
    nature: Nature
    says: str
    figure: Callable[[E, float], Figure]
    """(evidence, confidence) → the figure with its interval over prompts."""
    criterion: Criterion | None = None
    scale: float = 100.0
    """100 for points and percent, 1 for counts."""
    not_shown: str = ""
    """Why the miniature does not show it, where that is known: the claim stands with its figure and this reason."""

    @property
    def confidence(self) -> float:
        return self.criterion.confidence if self.criterion else 0.95

    def of(self, evidence: E) -> Figure:
        """The figure of one seed."""
        return self.figure(evidence, self.confidence)

    def over(self, seeds: Sequence[E]) -> Figure:
        """The figure over seeds; of a single one, its own. A count is the worst of the seeds."""
        figures = [self.of(evidence) for evidence in seeds]
        if len(figures) == 1:
            return figures[0]
        if self.nature is Nature.IDENTITY:
            return Figure.exact(max(figure.value for figure in figures))
        return over_seeds([figure.value for figure in figures], confidence=self.confidence)

    def holds(self, seeds: Sequence[E]) -> bool | None:
        """Whether the claim is met; None for one that is only reported."""
        return self.criterion.holds(self.over(seeds)) if self.criterion else None


def digest_of_claims(claims: Iterable[Claim[Any]]) -> str:
    """Identity of statements and criteria."""
    stated = [
        [claim.key, claim.nature, claim.says, claim.criterion.text(claim.scale) if claim.criterion else ""]
        for claim in claims
    ]
    return digest_of(stated)[:16]
