"""What the consumer thread and the event loop share about one assigned partition.

The thread delivers and commits, the loop hands out and finishes; every method may be called from either. An
assignment ends by `close` (nothing more is handed out) and `lose` (nothing more is counted): what is finished after
that is repeated by the new owner, and its offset is never committed from here.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from tracemend.adapters.kafka_envelope import Parcel
from tracemend.adapters.kafka_offsets import Offsets, Standing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """One record that was read, for its place in a buffer and then for its delivery."""

    partition: Partition
    offset: int
    parcel: Parcel
    written_s: float
    """Unix time at which the broker got it."""

    @property
    def origin(self) -> str:
        """`topic/partition/offset`."""
        return f"{self.partition.name}/{self.partition.number}/{self.offset}"


class Delayed(NamedTuple):
    """A record that is not due yet."""

    due_s: float
    entry: Entry


class Partition:
    """One partition during one assignment."""

    def __init__(self, *, name: str, number: int, topic: str) -> None:
        self.name = name
        """The topic's name without the namespace, delay suffix included."""
        self.number = number
        self.topic = topic
        """The topic of the catalogue whose messages these are."""
        self.delayed: deque[Delayed] = deque()
        """Read and not due; the partition is paused while there are any. The consumer thread's alone."""
        self._lock = threading.Lock()
        self._offsets = Offsets()
        self._is_open = True
        self._is_ours = True
        self._num_handed = 0

    def deliver(self, offset: int, *, at_s: float, written_s: float = 0.0) -> bool:
        """Count a record as read; False if it was read before."""
        with self._lock:
            return self._offsets.deliver(offset, at_s=at_s, written_s=written_s)

    def hand_out(self) -> bool:
        """Whether one of the read records may be worked now; then it must come back by `finish` or `take_back`."""
        with self._lock:
            self._num_handed += self._is_open
            return self._is_open

    def take_back(self) -> None:
        """A record that was handed out waits again."""
        with self._lock:
            self._num_handed -= 1

    def finish(self, offset: int, *, was_handed: bool = True) -> None:
        """A record is done with."""
        with self._lock:
            self._num_handed -= was_handed
            if self._is_ours:
                self._offsets.finish(offset)

    @property
    def to_commit(self) -> int | None:
        """The offset to commit; None where there is nothing new."""
        with self._lock:
            return self._offsets.to_commit if self._is_ours else None

    def committed(self, offset: int) -> None:
        with self._lock:
            self._offsets.committed(offset)

    def is_full(self, *, window: int, age_s: float, now_s: float) -> bool:
        """Whether reading must wait for the oldest record in work."""
        with self._lock:
            return self._offsets.is_full(window=window, age_s=age_s, now_s=now_s)

    @property
    def standing(self) -> Standing:
        """How far the work is done."""
        with self._lock:
            return self._offsets.standing

    @property
    def is_settled(self) -> bool:
        """Whether all that was read is done and committed."""
        with self._lock:
            return self._offsets.is_settled

    @property
    def is_busy(self) -> bool:
        """Whether records that were handed out are in work."""
        with self._lock:
            return self._num_handed > 0

    def close(self) -> None:
        """Hand out nothing more."""
        with self._lock:
            self._is_open = False

    def lose(self) -> None:
        """Somebody else's now."""
        with self._lock:
            self._is_open = self._is_ours = False
