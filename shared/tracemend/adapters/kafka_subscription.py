"""Subscriptions and deliveries of the Kafka bus: the side of the event loop.

`Reader` threads fill the buffers; a subscription pops the most urgent record, opens it (claim checks are fetched
from the store) and hands it out as a delivery. What cannot be opened goes to the dead letters and is no delivery:
whoever wrote it, it will be the same the next time. Acknowledging counts towards the prefix that the thread commits;
a message that is put back or buried is published there with its original bytes first, and acknowledged then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from tracemend.adapters.kafka_consumer import Reader
from tracemend.adapters.kafka_envelope import ATTEMPT, Parcel, buried, number_in, put_back, unpack
from tracemend.adapters.kafka_partition import Entry
from tracemend.kit.errors import CorruptBlob, Reject, Retry
from tracemend.kit.ports import Message, Store
from tracemend.kit.telemetry import CLAIM_CHECKS, MESSAGE_AGE, REDELIVERED, Telemetry
from tracemend.topics import DEAD_LETTERS, RETRY_TIERS_S, Topic, retry_name
from tracemend.wire import WireCodec

_FETCH_AGAIN_S = 30.0
_MAX_FETCHES = 20
"""Ten minutes: a store that lost a blob for longer has lost it."""

log = structlog.get_logger(__name__)


class Sender(Protocol):
    """Who makes parcels durable (`kafka_publisher.Publisher`)."""

    async def send(self, parcels: list[Parcel]) -> None: ...


class KafkaSubscription:
    """`kit.ports.Subscription`. Several tasks may iterate it; each message reaches one."""

    def __init__(
        self,
        topics: Mapping[str, Topic],
        *,
        group: str,
        news: asyncio.Event,
        readers: Sequence[Reader],
        sender: Sender,
        codec: WireCodec,
        store: Store | None,
        telemetry: Telemetry,
        on_close: Callable[[KafkaSubscription], None],
    ) -> None:
        self.group = group
        self.sender = sender
        self.is_closed = False
        self._topics = topics
        self._news = news
        self._readers = readers
        self._codec = codec
        self._store = store
        self._telemetry = telemetry
        self._on_close = on_close

    def __aiter__(self) -> KafkaSubscription:
        return self

    async def __anext__(self) -> KafkaDelivery:
        while not self.is_closed:
            self._news.clear()
            popped = self._popped()
            if popped is not None:
                delivery = await self._opened(*popped)
                if delivery is not None:
                    self._news.set()  # another task may wait for what is left
                    return delivery
            else:
                self._raise_failure()
                await self._news.wait()
        self._news.set()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Leave the group; what is not acknowledged goes to its other members, and repeats may with it."""
        if self.is_closed:
            return
        self.is_closed = True
        self._news.set()
        self._on_close(self)
        for reader in self._readers:
            reader.stop()
        for reader in self._readers:
            await asyncio.to_thread(reader.join)

    def _popped(self) -> tuple[Reader, Entry] | None:
        """The next record of the most urgent topic that has one."""
        for topic in self._topics:
            for reader in self._readers:
                entry = reader.pop(topic)
                if entry is not None:
                    return reader, entry
        return None

    def _raise_failure(self) -> None:
        for reader in self._readers:
            if reader.failure is not None:
                raise reader.failure

    # -------------------------------------------------------------------------------------- opening

    async def _opened(self, reader: Reader, entry: Entry) -> KafkaDelivery | None:
        """The delivery of a popped record; None for one that went elsewhere because it cannot be opened."""
        delivery = KafkaDelivery(entry, self)
        try:
            await self._open(delivery)
        except Reject as hopeless:
            log.warning("message is unreadable", topic=entry.partition.name, reason=hopeless.reason)
            self._telemetry.item(self.group, "dead", hopeless.reason)
            await delivery.bury(reason=hopeless.reason)
            return None
        except Retry as busy:
            await delivery.nack(delay_s=busy.after_s)
            return None
        except asyncio.CancelledError:
            reader.push_back(entry)
            raise
        self._telemetry.observe(MESSAGE_AGE, max(0.0, time.time() - entry.written_s), topic=entry.partition.topic)
        if number_in(entry.parcel.headers, ATTEMPT):
            self._telemetry.count(REDELIVERED, group=self.group)
        return delivery

    async def _open(self, delivery: KafkaDelivery) -> None:
        parcel, topic = delivery.entry.parcel, self._topics[delivery.entry.partition.topic]
        if parcel.claim:
            parcel = await self._fetched(parcel)
            self._telemetry.count(CLAIM_CHECKS, topic=topic.name)
        delivery.message = unpack(parcel, topic, self._codec)

    async def _fetched(self, parcel: Parcel) -> Parcel:
        """The parcel with the body that its claim check names."""
        if self._store is None:
            raise Retry("a claim check came, and the bus was opened without a store", after_s=_FETCH_AGAIN_S)
        try:
            body = await self._store.get(parcel.claim)
        except CorruptBlob:
            raise Reject("claim_corrupt") from None
        except (KeyError, ValueError):
            if number_in(parcel.headers, ATTEMPT) >= _MAX_FETCHES:
                raise Reject("claim_missing") from None
            raise Retry("claim_missing", after_s=_FETCH_AGAIN_S) from None
        return Parcel(topic=parcel.topic, key=parcel.key, body=body, headers=parcel.headers)


class KafkaDelivery:
    """`kit.ports.Delivery`."""

    __slots__ = ("_is_done", "_subscription", "entry", "message")

    message: Message

    def __init__(self, entry: Entry, subscription: KafkaSubscription) -> None:
        self.entry = entry
        self._subscription = subscription
        self._is_done = False

    async def ack(self) -> None:
        """A second one does nothing; after the partition went to another member, the message comes again there."""
        if not self._is_done:
            self._is_done = True
            self.entry.partition.finish(self.entry.offset)

    async def nack(self, *, delay_s: float) -> None:
        entry, group = self.entry, self._subscription.group
        tier_s = next((tier_s for tier_s in RETRY_TIERS_S if delay_s <= tier_s), RETRY_TIERS_S[-1])
        topic = retry_name(entry.partition.topic, tier_s)
        await self._move(put_back(entry.parcel, topic, group=group, delay_s=delay_s, origin=entry.origin))

    async def bury(self, *, reason: str) -> None:
        entry, group = self.entry, self._subscription.group
        topic = entry.partition.topic + DEAD_LETTERS
        await self._move(buried(entry.parcel, topic, group=group, reason=reason, origin=entry.origin))

    async def _move(self, parcel: Parcel) -> None:
        """Publish it elsewhere, however long that takes, then acknowledge it here. Given up when the subscription
        closes: then the message comes again from where it is."""
        while not (self._is_done or self._subscription.is_closed):
            try:
                await self._subscription.sender.send([parcel])
            except Retry as busy:
                log.warning("a message cannot be moved yet", topic=parcel.topic, reason=busy.reason)
                await asyncio.sleep(busy.after_s)
            else:
                await self.ack()
