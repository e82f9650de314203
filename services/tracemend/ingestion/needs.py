"""What the ingestion servicer needs from whoever composes it: plans, books, stories and dead letters, as protocols.

The slice knows neither plans nor arms; programs hand these in. Everything may raise `Retry`, which callers of the
service see as UNAVAILABLE, and `SetupError`, which they are told in its own words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tracemend.kit.ports import ConcludedUnit, Cost
from tracemend.records import Outcome, OutcomeState, Prompt, Trajectory, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPlan:
    """What a plan says of the run that it makes."""

    run: str
    """The run's id: a function of the plan and of the models that it names."""
    name: str
    target: str
    """Name of the served target."""


class Plans(Protocol):
    """Reads resolved plans."""

    async def check(self, content: bytes) -> CheckedPlan:
        """What `content` is a plan of; `SetupError` where it is none that this release reads, or where its target or
        one of its models is not served here."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How far a run's units are."""

    num_units: int = 0
    outcomes: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """(arm, state, reason) to the number of units."""
    costs: Sequence[Cost] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeQuery:
    """Which outcomes; what is empty means all."""

    run: str
    arm: str = ""
    states: frozenset[OutcomeState] = frozenset()
    reason: str = ""
    prompt: str = ""


class Books(Protocol):
    """Counts and outcomes of runs."""

    async def counts(self, run: str) -> Counts: ...

    async def outcomes(self, query: OutcomeQuery, *, after: str, limit: int) -> tuple[Sequence[ConcludedUnit], str]:
        """At most `limit` outcomes that follow the place `after` (empty: from the beginning), by arm, row, sample and
        variant, and the place to go on from: empty once there are no more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """Units that were opened anew."""

    num_units: int = 0
    prompts: Mapping[str, int] = field(default_factory=dict)
    """Arm to the number of its prompts."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """`state/reason` of the units that gave cause, to their number."""


class Redriving(Protocol):
    """Opens units that ended badly anew."""

    async def redrive(self, run: str, *, arm: str, reason: str, dry_run: bool) -> Redriven:
        """Of `arm` and for `reason` only, where they are not empty; nothing is changed by a dry run."""
        ...


class PublishedRow(Protocol):
    """Where a prompt's row was published."""

    @property
    def arm(self) -> str: ...
    @property
    def row(self) -> int: ...
    @property
    def example(self) -> str: ...
    @property
    def sample(self) -> int: ...


class Story(Protocol):
    """Everything that a run knows of one prompt."""

    @property
    def matched(self) -> str: ...
    @property
    def row(self) -> int: ...
    @property
    def prompt(self) -> Prompt: ...
    @property
    def samples(self) -> Sequence[Verdict]: ...
    @property
    def rewrites(self) -> Sequence[Verdict]: ...
    @property
    def forks(self) -> Sequence[Verdict]: ...
    @property
    def outcomes(self) -> Sequence[Outcome]: ...
    @property
    def published(self) -> Sequence[PublishedRow]: ...
    @property
    def num_open(self) -> int: ...


class Stories(Protocol):
    """Finds records of runs by their ids."""

    async def tell(self, run: str, wanted: str) -> Story:
        """The story of the prompt that the id, or its beginning, belongs to; `SetupError` if it is none, or several."""
        ...

    async def trajectory(self, run: str, wanted: str) -> Trajectory | None:
        """The trajectory of that very id."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which dead letters of a run; what is empty means all."""

    run: str
    topic: str = ""
    stage: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was given up, without its content."""

    id: str
    topic: str
    stage: str
    reason: str
    record: str
    """The id of its record; empty where it could not be decoded."""
    time_s: float
    num_bytes: int


class DeadLetters(Protocol):
    """The messages that were given up."""

    def letters(self, which: LetterFilter, *, after: str) -> AsyncIterator[DeadLetter]:
        """Those that follow the id `after` (empty: from the first), the oldest first."""
        ...

    async def redrive(
        self, which: LetterFilter, *, max_messages: int, rate_per_s: float, dry_run: bool
    ) -> tuple[int, int]:
        """Publish them again on the topics that they came from: (matched, published). 0 stands for no bound."""
        ...
