"""Which offset of a partition may be committed: the end of the contiguous prefix of what is done.

Used by the Kafka consumer, one per assigned partition. Work ends in any order, so offsets are done out of order; what
is committed never passes an offset that is not done, and a crash repeats the rest. Offsets may have holes (compaction,
control records): the prefix is over what was delivered, not over numbers. Knows no clock, no thread and no client.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far the work on a partition is done, for measurements."""

    offset: int | None = None
    """The first that is not done; None before anything was delivered."""
    read_s: float = math.inf
    """When that one was delivered, Unix time; infinite where all that was delivered is done."""
    written_s: float = math.inf
    """When the broker got it."""
    num_gap: int = 0
    """Done, and behind one that is not."""


class Offsets:
    """The delivered offsets of one partition during one assignment."""

    __slots__ = ("_committed", "_delivered", "_done", "_next")

    def __init__(self) -> None:
        self._delivered: deque[tuple[int, float, float]] = deque()
        """(offset, when it was delivered, when it was written), from the first that is not done."""
        self._done: set[int] = set()
        """Those of `_delivered` that are done."""
        self._next: int | None = None
        self._committed: int | None = None

    def deliver(self, offset: int, *, at_s: float, written_s: float = 0.0) -> bool:
        """Take note of a delivered offset, in the order of the partition; False if it was delivered before."""
        newest = self.newest
        if newest is not None and offset <= newest:
            return False
        self._delivered.append((offset, at_s, written_s))
        return True

    def finish(self, offset: int) -> None:
        """A delivered offset is done; saying so again changes nothing."""
        if not self._delivered or offset < self._delivered[0][0]:
            return
        self._done.add(offset)
        while self._delivered and self._delivered[0][0] in self._done:
            first, _, _ = self._delivered.popleft()
            self._done.discard(first)
            self._next = first + 1

    @property
    def to_commit(self) -> int | None:
        """What to commit: the offset after the done prefix, as Kafka counts; None where that is committed already."""
        return None if self._next == self._committed else self._next

    def committed(self, offset: int) -> None:
        """The broker has `offset`."""
        self._committed = offset

    @property
    def newest(self) -> int | None:
        """The last delivered offset; None before the first."""
        if self._delivered:
            return self._delivered[-1][0]
        return None if self._next is None else self._next - 1

    @property
    def standing(self) -> Standing:
        """How far the done prefix reaches, and how old what follows it is."""
        if self._delivered:
            offset, at_s, written_s = self._delivered[0]
            return Standing(offset=offset, read_s=at_s, written_s=written_s, num_gap=self.gap)
        return Standing(offset=self._next)

    @property
    def num_open(self) -> int:
        """Delivered and not yet done."""
        return len(self._delivered) - len(self._done)

    @property
    def is_settled(self) -> bool:
        """Whether all that was delivered is done and committed."""
        return not self._delivered and self.to_commit is None

    @property
    def gap(self) -> int:
        """Done, and not to be committed yet because something before is not."""
        return len(self._done)

    def is_full(self, *, window: int, age_s: float, now_s: float) -> bool:
        """Whether no more should be delivered: `window` offsets wait for the oldest, or done ones for `age_s`."""
        if len(self._delivered) >= window:
            return True
        return bool(self._done) and now_s - self._delivered[0][1] >= age_s
