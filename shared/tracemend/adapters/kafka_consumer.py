"""A thread that reads from Kafka for a subscription: it polls for ever, whatever the work takes.

Started by the bus's subscriptions. A member of a group that does not poll is thrown out, so polling is a thread of
its own and work is handed over through one buffer per topic, the most urgent first. Reading stops by pausing
partitions: those of a topic whose buffer is full, whose records are not due, or whose oldest record in work holds up
too many that are done. Pauses are worked out anew before every poll and for every partition that is newly assigned.

Only contiguous prefixes are committed (`kafka_commits`). When partitions are taken away, nothing more of them is handed
out, what is in work may end for a while, what has ended is committed, and then they go (KIP-429).
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from tracemend.adapters.kafka_clients import KafkaSettings, open_consumer
from tracemend.adapters.kafka_commits import Commits
from tracemend.adapters.kafka_envelope import DUE, GROUP, parcel_of, time_in
from tracemend.adapters.kafka_partition import Delayed, Entry, Partition
from tracemend.kit.errors import SetupError
from tracemend.kit.telemetry import ASSIGNED, COMMIT_GAP, LAG_ITEMS, LAG_SECONDS, QUEUE_AGE, REBALANCES, Telemetry

if TYPE_CHECKING:
    from kafka import KafkaConsumer, TopicPartition

_LONGEST_DELAY_S = 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is read ahead, and how long things may take."""

    high_water: int = 1000
    """Records of a topic in its buffer at which reading stops."""
    low_water: int = 500
    """At which it goes on."""
    window: int = 4096
    """Records of a partition that may be read beyond its oldest in work."""
    window_age_s: float = 600.0
    """For how long that one may hold up the commit of others before no more are read."""
    commit_every_s: float = 0.2
    revoke_wait_s: float = 5.0
    """How long work on a partition that is taken away may end."""
    poll_s: float = 0.05
    idle_poll_s: float = 0.5
    """A poll of a member that has nothing in hand; what arrives ends it at once."""
    gather_s: float = 0.025
    """How long records gather at the broker before they are fetched again: a fetch costs as much as many records."""
    measure_every_s: float = 5.0


class Reader:
    """Reads `sources` (topic as the broker names it → (its name here, topic of the catalogue)) for `group`, as a member
    of the broker's group `joined`.

    `news` is set, in `loop`, whenever there is something to `pop`, and when reading has ended.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        sources: Mapping[str, tuple[str, str]],
        *,
        group: str,
        joined: str,
        news: asyncio.Event,
        telemetry: Telemetry,
        limits: Limits,
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._group = group
        self._joined = joined
        self._names = {name for name, _ in sources.values()}
        self._buffers: dict[str, deque[Entry]] = {topic: deque() for _, topic in sources.values()}
        self._news = news
        self._loop = asyncio.get_running_loop()
        self._telemetry = telemetry
        self._limits = limits
        self._partitions: dict[TopicPartition, Partition] = {}
        self._stopping = threading.Event()
        self._next_commit_s = self._next_measure_s = 0.0
        self.failure: BaseException | None = None
        """Why reading ended by itself; the subscription raises it."""
        self._thread = threading.Thread(target=self._run, name=f"kafka-{joined}", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------------------- for the event loop

    def pop(self, topic: str) -> Entry | None:
        """The next record of `topic`, if there is one; what was taken away since it was read is dropped."""
        buffer = self._buffers.get(topic)
        while buffer:
            entry = buffer.popleft()
            if entry.partition.hand_out():
                return entry
        return None

    def push_back(self, entry: Entry) -> None:
        """A popped record goes back to where it was."""
        entry.partition.take_back()
        self._buffers[entry.partition.topic].appendleft(entry)
        self._news.set()

    def stop(self) -> None:
        """Commit what is done, leave the group and end; `join` waits for it."""
        self._stopping.set()

    def join(self) -> None:
        self._thread.join()

    # -------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        from kafka.errors import KafkaError

        try:
            while not self._stopping.is_set():
                try:
                    self._read()
                except KafkaError as error:
                    log.warning("reading starts again", group=self._group, error=type(error).__name__)
                    self._stopping.wait(1.0)
        finally:
            self.failure = sys.exception()  # whatever it is, the subscription raises it and waits no more
            with suppress(RuntimeError):  # the loop may have ended before us
                self._loop.call_soon_threadsafe(self._news.set)

    def _read(self) -> None:
        consumer = self._opened()
        if consumer is None:
            return
        commits = Commits(
            consumer, group=self._group, telemetry=self._telemetry, answer_s=2 * self._settings.request_timeout_s
        )
        try:
            consumer.subscribe(list(self._sources), listener=_listener(self, consumer, commits))
            self._await_topics(consumer)
            while not self._stopping.is_set():
                self._turn(consumer, commits)
            commits.at_last(self._partitions)
        finally:
            for partition in self._partitions.values():
                partition.close()
            consumer.close(autocommit=False, timeout_ms=5000)
            self._forget(list(self._partitions))
            self._measure(consumer)  # nothing is in hand here now

    def _opened(self) -> KafkaConsumer | None:
        """A connected consumer; waits for brokers that are away, until stopped."""
        while not self._stopping.is_set():
            try:
                return open_consumer(self._settings, group=self._joined)
            except SetupError as away:
                log.warning("waiting for Kafka", group=self._group, error=str(away))
                self._stopping.wait(1.0)
        return None

    def _await_topics(self, consumer: KafkaConsumer) -> None:
        """Join only once the topics are known: a leader that does not know one assigns nothing of it to anybody."""
        told_s = 0.0
        while not self._stopping.is_set():
            missing = [name for name in self._sources if not consumer.partitions_for_topic(name)]
            if not missing:
                return
            if time.monotonic() - told_s > 10:
                told_s = time.monotonic()
                log.warning("waiting for topics", group=self._group, missing=missing)
            self._stopping.wait(0.2)

    def _turn(self, consumer: KafkaConsumer, commits: Commits) -> None:
        from kafka.errors import AuthorizationError, KafkaError

        self._apply_pauses(consumer, self._partitions)
        try:
            polled = consumer.poll(timeout_ms=int(self._patience_s * 1000))
        except AuthorizationError as refused:
            raise SetupError(f"Kafka lets us not read as group '{self._group}': {refused}; grant it READ") from None
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("poll failed", group=self._group, error=type(error).__name__)
            self._stopping.wait(0.2)
            return
        now_s = time.time()
        num_new = sum(self._take(self._partitions[tp], records, now_s) for tp, records in polled.items())
        num_new += sum(self._release(partition, now_s) for partition in self._partitions.values() if partition.delayed)
        if num_new:
            self._loop.call_soon_threadsafe(self._news.set)
            self._stopping.wait(self._limits.gather_s)
        if time.monotonic() >= self._next_commit_s:
            commits.ask(self._partitions)
            self._next_commit_s = time.monotonic() + self._limits.commit_every_s
        if time.monotonic() >= self._next_measure_s:
            self._measure(consumer)
            self._next_measure_s = time.monotonic() + self._limits.measure_every_s

    @property
    def _patience_s(self) -> float:
        """How long a poll may wait: not long while there is something to commit, to release or to resume."""
        is_idle = all(partition.is_settled for partition in self._partitions.values())
        return self._limits.idle_poll_s if is_idle else self._limits.poll_s

    def _take(self, partition: Partition, records: Sequence[Any], now_s: float) -> int:
        """Buffer what was polled; returns how many may be worked now."""
        num_new = 0
        for record in records:
            if not partition.deliver(record.offset, at_s=now_s, written_s=record.timestamp / 1000):
                continue
            parcel = parcel_of(record, partition.name)
            if parcel.headers.get(GROUP, self._group) != self._group:
                partition.finish(record.offset, was_handed=False)
                continue
            entry = Entry(partition=partition, offset=record.offset, parcel=parcel, written_s=record.timestamp / 1000)
            # A header may come from anybody: what lies on no delay topic was not put back, and a delay has an end.
            is_put_back = partition.name != partition.topic
            due_s = min(time_in(parcel.headers, DUE), entry.written_s + _LONGEST_DELAY_S) if is_put_back else 0.0
            if partition.delayed or due_s > now_s:
                partition.delayed.append(Delayed(due_s, entry))
            else:
                self._buffers[partition.topic].append(entry)
                num_new += 1
        return num_new

    def _release(self, partition: Partition, now_s: float) -> int:
        num_new = 0
        while partition.delayed and partition.delayed[0].due_s <= now_s:
            self._buffers[partition.topic].append(partition.delayed.popleft().entry)
            num_new += 1
        return num_new

    # ------------------------------------------------------------------------------------------ pauses

    def _apply_pauses(self, consumer: KafkaConsumer, among: Collection[TopicPartition]) -> None:
        paused = consumer.paused()
        now_s = time.time()
        for tp in among:
            is_paused = tp in paused
            if self._must_wait(self._partitions[tp], now_s, is_paused=is_paused) != is_paused:
                (consumer.resume if is_paused else consumer.pause)(tp)

    def _must_wait(self, partition: Partition, now_s: float, *, is_paused: bool) -> bool:
        limits = self._limits
        num_buffered = len(self._buffers[partition.topic])
        return (
            bool(partition.delayed)
            or num_buffered >= (limits.low_water if is_paused else limits.high_water)
            or partition.is_full(window=limits.window, age_s=limits.window_age_s, now_s=now_s)
        )

    # -------------------------------------------------------------------------------------- rebalances

    def assigned(self, consumer: KafkaConsumer, partitions: Collection[TopicPartition]) -> None:
        """New partitions of ours; called before anything is fetched from them."""
        self._telemetry.count(REBALANCES, group=self._group)
        for tp in partitions:
            name, topic = self._sources[tp.topic]
            self._partitions[tp] = Partition(name=name, number=tp.partition, topic=topic)
        self._apply_pauses(consumer, partitions)

    async def revoked(self, commits: Commits, partitions: Collection[TopicPartition]) -> None:
        """Partitions that will be another's: let their work end, commit, let go. Runs on the client's own scheduler,
        which keeps the heartbeats going."""
        from kafka.net.selector import KernelEvent  # what the client's own `sleep` makes, which it does not hand out

        going = {tp: self._partitions[tp] for tp in partitions if tp in self._partitions}
        for partition in going.values():
            partition.close()
        deadline_s = time.monotonic() + self._limits.revoke_wait_s
        while any(p.is_busy for p in going.values()) and time.monotonic() < deadline_s:
            if self._stopping.is_set():
                break
            await KernelEvent("_sleep", 0.01)
        await commits.hand_over(going)
        self._forget(going)

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """Partitions that are another's already."""
        self._telemetry.count(REBALANCES, group=self._group)
        log.warning("partitions lost", group=self._group, num_partitions=len(partitions))
        self._forget(partitions)

    def _forget(self, partitions: Collection[TopicPartition]) -> None:
        for tp in list(partitions):
            partition = self._partitions.pop(tp, None)
            if partition is not None:
                partition.lose()

    # ------------------------------------------------------------------------------------- measurements

    def _measure(self, consumer: KafkaConsumer) -> None:
        now_s, topics = time.time(), sorted({topic for _, topic in self._sources.values()})
        for topic in topics:
            its = {tp: partition for tp, partition in self._partitions.items() if partition.topic == topic}
            labels = {"group": self._group, "topic": topic if topic in self._names else f"{topic}.retry"}
            states = {tp: partition.standing for tp, partition in its.items()}
            ends = {tp: consumer.highwater(tp) for tp in its}
            behind = [max(0, (ends[tp] or 0) - at.offset) for tp, at in states.items() if at.offset is not None]
            written_s = min((at.written_s for at in states.values()), default=math.inf)
            read_s = min((at.read_s for at in states.values()), default=math.inf)
            self._telemetry.gauge(ASSIGNED, len(its), **labels)
            self._telemetry.gauge(COMMIT_GAP, sum(at.num_gap for at in states.values()), **labels)
            self._telemetry.gauge(LAG_ITEMS, sum(behind), **labels)
            self._telemetry.gauge(LAG_SECONDS, max(0.0, now_s - written_s) if written_s < math.inf else 0.0, **labels)
            self._telemetry.gauge(QUEUE_AGE, max(0.0, now_s - read_s) if read_s < math.inf else 0.0, **labels)


def _listener(reader: Reader, consumer: KafkaConsumer, commits: Commits) -> Any:
    """Rebalance callbacks for the client, whose base class is imported with it."""
    from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener

    class Rebalances(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # the client has no types
        async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
            reader.assigned(consumer, assigned)

        async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
            await reader.revoked(commits, revoked)

        async def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
            reader.lost(lost)

    return Rebalances()
