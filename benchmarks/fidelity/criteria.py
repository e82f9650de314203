"""When a figure meets a claim: the kinds of criterion, each with the words that the table shows.

Figures and limits are shares or counts; `scale` turns them into percent for the words. A level is met by its mean; a
difference that must not be luck asks for its interval as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from benchmarks.fidelity.figures import Figure


class Criterion(Protocol):
    """When a figure meets a claim."""

    @property
    def confidence(self) -> float:
        """Of the interval that the criterion looks at."""
        ...

    def text(self, scale: float) -> str:
        """The criterion in words, its limit times `scale`."""
        ...

    def holds(self, figure: Figure) -> bool:
        """Whether `figure` meets it."""
        ...

    def is_refuted_by(self, figure: Figure) -> bool:
        """Whether even the favourable end of the figure's interval misses it: what one seed can say of a criterion
        that asks for many."""
        ...


@dataclass(frozen=True, slots=True)
class Below:
    """A difference of at most `-gap`, whose interval leaves out zero."""

    gap: float
    confidence: float = 0.95

    def text(self, scale: float) -> str:
        return f"≤ −{self.gap * scale:g}, interval below 0" if self.gap else "interval below 0"

    def holds(self, figure: Figure) -> bool:
        return figure.value <= -self.gap and figure.high < 0

    def is_refuted_by(self, figure: Figure) -> bool:
        return figure.low > -self.gap


@dataclass(frozen=True, slots=True)
class Above:
    """A difference of at least `gap`, whose interval leaves out zero."""

    gap: float
    confidence: float = 0.95

    def text(self, scale: float) -> str:
        return f"≥ {self.gap * scale:g}, interval above 0" if self.gap else "interval above 0"

    def holds(self, figure: Figure) -> bool:
        return figure.value >= self.gap and figure.low > 0

    def is_refuted_by(self, figure: Figure) -> bool:
        return figure.high < self.gap


@dataclass(frozen=True, slots=True)
class Between:
    """A value above `least` and below `limit`."""

    least: float
    limit: float
    confidence: float = 0.95

    def text(self, scale: float) -> str:
        return f"above {self.least * scale:g}, below {self.limit * scale:g}"

    def holds(self, figure: Figure) -> bool:
        return self.least < figure.value < self.limit

    def is_refuted_by(self, figure: Figure) -> bool:
        return figure.high <= self.least or figure.low >= self.limit


@dataclass(frozen=True, slots=True)
class NoWorse:
    """The upper one of the two one-sided tests of equivalence, at 5 %: the 90 % interval ends below `margin`."""

    margin: float
    confidence: float = 0.90

    def text(self, scale: float) -> str:
        return f"90 % interval ends below {self.margin * scale:g}"

    def holds(self, figure: Figure) -> bool:
        return figure.high < self.margin

    def is_refuted_by(self, figure: Figure) -> bool:
        return figure.low >= self.margin


@dataclass(frozen=True, slots=True)
class AtMost:
    """A value of at most `limit`."""

    limit: float
    confidence: float = 0.95

    def text(self, scale: float) -> str:
        return f"≤ {self.limit * scale:g}" if self.limit else "0"

    def holds(self, figure: Figure) -> bool:
        return figure.value <= self.limit

    def is_refuted_by(self, figure: Figure) -> bool:
        return figure.low > self.limit


@dataclass(frozen=True, slots=True)
class Within:
    """A difference of at most `limit` in either direction."""

    limit: float
    confidence: float = 0.95

    def text(self, scale: float) -> str:
        return f"within ± {self.limit * scale:g}"

    def holds(self, figure: Figure) -> bool:
        return abs(figure.value) <= self.limit

    def is_refuted_by(self, figure: Figure) -> bool:
        return max(figure.low, -figure.high) > self.limit


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A value of at least `limit`."""

    limit: float
    confidence: float = 0.95

    def text(self, scale: float) -> str:
        return f"≥ {self.limit * scale:g}".replace("-", "−")

    def holds(self, figure: Figure) -> bool:
        return figure.value >= self.limit

    def is_refuted_by(self, figure: Figure) -> bool:
        return figure.high < self.limit
