"""Asking the broker to remember how far a member's work is done.

Used by the consumer's thread alone. One request is under way at a time, and nobody waits for it: a commit that is
waited for while the group rebalances would keep this member from joining, which the commit waits for. An answer that
does not come (a coordinator that went away in between) is given up after a while, or commits would have stopped for
ever; if it comes after all, it tells the truth about older offsets, and the next request goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from tracemend.adapters.kafka_partition import Partition
from tracemend.kit.telemetry import COMMITS, Telemetry

if TYPE_CHECKING:
    from kafka import TopicPartition

_AT_LAST_S = 3.0

log = structlog.get_logger(__name__)


class Committer(Protocol):
    """The part of the client's consumer that commits."""

    def commit_async(self, offsets: Any, callback: Callable[[Any, Any], None] | None = None) -> Any: ...

    def commit(self, offsets: Any, timeout_ms: int | None = None) -> Any: ...


class Commits:
    """Commits for one connected consumer. `answer_s` is how long an answer may take, `clock` counts seconds."""

    def __init__(
        self,
        consumer: Committer,
        *,
        group: str,
        telemetry: Telemetry,
        answer_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._consumer = consumer
        self._group = group
        self._telemetry = telemetry
        self._answer_s = answer_s
        self._clock = clock
        self._num_asked = 0
        self._waits_until_s: float | None = None
        """When the request under way is given up; None while there is none."""

    def ask(self, partitions: Mapping[TopicPartition, Partition]) -> None:
        """Have what is done committed, unless a request is under way; the answer comes in a later poll."""
        if self._waits_until_s is not None:
            if self._clock() < self._waits_until_s:
                return
            self._failed("no answer")
        due, going = _due(partitions), dict(partitions)
        if not due:
            self._waits_until_s = None
            return
        self._num_asked += 1
        number = self._num_asked

        def answered(_: object, answer: object) -> None:
            if number == self._num_asked:
                self._waits_until_s = None
            if isinstance(answer, Exception):  # a rebalance is on its way, or the coordinator moved: later
                self._failed(type(answer).__name__)
            else:
                self._done(going, due)

        self._waits_until_s = self._clock() + self._answer_s
        self._consumer.commit_async(_for_broker(due), callback=answered)

    async def hand_over(self, partitions: Mapping[TopicPartition, Partition]) -> None:
        """Commit what is done of partitions that go to another member; awaited on the client's own scheduler."""
        from kafka.errors import KafkaError

        due = _due(partitions)
        if not due:
            return
        try:
            await self._consumer.commit_async(_for_broker(due))
        except KafkaError as error:  # then the next owner repeats it
            self._failed(type(error).__name__)
        else:
            self._done(partitions, due)

    def at_last(self, partitions: Mapping[TopicPartition, Partition]) -> None:
        """Commit what is done, before leaving."""
        from kafka.errors import KafkaError

        due = _due(partitions)
        if not due:
            return
        try:
            self._consumer.commit(_for_broker(due), timeout_ms=int(_AT_LAST_S * 1000))
        except KafkaError as error:  # then the next owner repeats it
            self._failed(type(error).__name__)
        else:
            self._done(partitions, due)

    def _done(self, partitions: Mapping[TopicPartition, Partition], offsets: Mapping[TopicPartition, int]) -> None:
        for tp, offset in offsets.items():
            partitions[tp].committed(offset)
        self._telemetry.count(COMMITS, group=self._group, outcome="ok")

    def _failed(self, error: str) -> None:
        self._telemetry.count(COMMITS, group=self._group, outcome="failed")
        log.warning("commit failed", group=self._group, error=error)


def _due(among: Mapping[TopicPartition, Partition]) -> dict[TopicPartition, int]:
    offsets = {tp: partition.to_commit for tp, partition in among.items()}
    return {tp: offset for tp, offset in offsets.items() if offset is not None}


def _for_broker(offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Any]:
    from kafka.structs import OffsetAndMetadata

    return {tp: OffsetAndMetadata(offset, "", -1) for tp, offset in offsets.items()}
