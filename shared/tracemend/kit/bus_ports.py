"""The ports beside the bus: its dead letters, its topics and what waits in it, for whoever operates it.

Commands and servicers know these; stages know `kit.ports.Bus` alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tracemend.topics import Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """What is known of a message that was given up; its bytes stay where they are until they are redriven."""

    id: str
    """Where it lies: stable, sorts by age within a partition."""
    topic: str
    """The topic that it was given up from."""
    reason: str
    record: str
    """The record's id; empty where even the headers could not be read."""
    run: str
    group: str
    """The consumer group that gave it up: only it will see the message again."""
    buried_s: float
    """Unix time."""
    num_bytes: int
    version: str
    """Of the software that gave it up."""
    origin: str
    """`topic/partition/offset` that it was first read from."""
    num_attempts: int = 0
    """How often it had been put back before."""
    redrive: str = ""
    """The last redrive that sent it again; empty for one that still waits."""


class DeadLetters(Protocol):
    """Messages that were given up, with their original bytes."""

    def letters(
        self, topics: Sequence[Topic], *, run: str = "", reason: str = "", redriven: bool = False
    ) -> AsyncIterator[DeadLetter]:
        """Those of `topics` that wait, the oldest first within a partition; of a run and a reason only, where given;
        with those that were redriven before, if `redriven`."""
        ...

    async def redrive(
        self, letters: Sequence[DeadLetter], *, redrive: str, per_s: float = 0.0, dry_run: bool = False
    ) -> int:
        """Send `letters` again, at most `per_s` each second (0: as fast as it goes), marked with the id `redrive`, to
        the group that gave them up; returns how many. A letter that `redrive` has sent is not sent by it again."""
        ...

    async def aclose(self) -> None: ...


class TopicKeeper(Protocol):
    """Who makes topics, and checks that they are as the catalogue says."""

    async def differences(self, topics: Sequence[Topic]) -> Sequence[str]:
        """One line per topic that lacks or differs, with what differs; empty where all is well."""
        ...

    async def apply(self, topics: Sequence[Topic]) -> Sequence[str]:
        """Create and change what differs, never shrinking or deleting; returns what was done, a line each."""
        ...

    async def check(self, topics: Sequence[Topic]) -> None:
        """`SetupError` that names the topics a service needs and the bus lacks, or says why the bus cannot be asked."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What one group has not done of one topic."""

    group: str
    topic: str
    """Of the catalogue; with `.retry` for all that was put back from it."""
    num_items: int
    """From the first that is not done to the end."""
    oldest_s: float
    """Seconds since that one was written; 0 where nothing waits."""
    num_members: int
    """Processes that are members of the group for this topic."""


class Backlogs(Protocol):
    """What waits, seen from outside: also for groups without a member."""

    async def read(self) -> Sequence[Backlog]:
        """One for each group and topic, in the order of their names. `Retry` while the bus does not answer."""
        ...

    async def aclose(self) -> None: ...
