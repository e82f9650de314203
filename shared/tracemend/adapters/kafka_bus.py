"""The `kafka:` bus: `kit.ports.Bus` over real brokers.

Opened by `runtime`. Publishing encodes, turns bodies over the size limit into claim checks (their blob is durable
before the message is), sends, and returns when every delivery report is good. Subscriptions read the given topics and
the delay topics beside them, each in a thread and as a broker's group of its own: `<group>.<topic>` and
`<group>.<topic>.retry.1s` (all tiers). Topics are made by `kafka_topics`, never by accident.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tracemend.adapters.kafka_clients import KafkaSettings, open_admin
from tracemend.adapters.kafka_consumer import Limits, Reader
from tracemend.adapters.kafka_envelope import Parcel, claimed, pack
from tracemend.adapters.kafka_publisher import Publisher
from tracemend.adapters.kafka_subscription import KafkaSubscription
from tracemend.kit.errors import Retry
from tracemend.kit.ports import Message, Store
from tracemend.kit.telemetry import NO_TELEMETRY, Telemetry
from tracemend.topics import RETRY_TIERS_S, Topic, retry_name
from tracemend.wire import WireCodec

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

_LOOK_EVERY_S = 0.1


class KafkaBus:
    """`kit.ports.Bus`. All methods belong to one event loop."""

    def __init__(
        self,
        settings: KafkaSettings,
        codec: WireCodec,
        *,
        store: Store | None = None,
        telemetry: Telemetry = NO_TELEMETRY,
        limits: Limits | None = None,
        publisher: Publisher | None = None,
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._store = store
        self._telemetry = telemetry
        self._limits = limits or Limits()
        self._publisher = publisher or Publisher(settings, telemetry=telemetry)
        self._open: set[KafkaSubscription] = set()
        self._read: dict[str, set[str]] = {}
        """Broker's group to the topics that it was subscribed to here, named as the broker does."""
        self._is_closed = False

    def subscribe(self, topics: Sequence[Topic], *, group: str) -> KafkaSubscription:
        """A new member of `group`, which joins in its own time; a new group begins at the beginning of its topics."""
        if self._is_closed:
            raise Retry("the bus is closed")
        news = asyncio.Event()
        readers = [self._reader(group, topic, names, news) for topic in topics for names in _read_apart(topic)]
        subscription = KafkaSubscription(
            {topic.name: topic for topic in topics},
            group=group,
            news=news,
            readers=readers,
            sender=self._publisher,
            codec=self._codec,
            store=self._store,
            telemetry=self._telemetry,
            on_close=self._open.discard,
        )
        self._open.add(subscription)
        return subscription

    def _reader(self, group: str, topic: Topic, names: Sequence[str], news: asyncio.Event) -> Reader:
        joined = f"{group}.{names[0]}"
        sources = {self._settings.named(name): (name, topic.name) for name in names}
        self._read.setdefault(joined, set()).update(sources)
        return Reader(
            self._settings,
            sources,
            group=group,
            joined=joined,
            news=news,
            telemetry=self._telemetry,
            limits=self._limits,
        )

    async def publish(self, messages: Sequence[Message]) -> None:
        """A message that cannot be encoded keeps back the whole batch (`Reject`)."""
        if self._is_closed:
            raise Retry("the bus is closed")
        parcels = [pack(message, self._codec) for message in messages]
        await self._publisher.send([await self._checked_in(parcel) for parcel in parcels])

    async def _checked_in(self, parcel: Parcel) -> Parcel:
        """The parcel, or a claim check for it where it is over the size limit and there is a store."""
        if self._store is None or len(parcel.body) <= self._settings.max_inline_bytes:
            return parcel
        return claimed(parcel, await self._store.put(parcel.body))

    async def drained(self) -> None:
        """Looks at what every group that was subscribed here has committed, on all of its topics, twice running."""
        admin = await asyncio.to_thread(open_admin, self._settings)
        try:
            num_quiet = 0
            while num_quiet < 2:
                if self._is_closed:
                    raise Retry("the bus was closed with messages unfinished")
                is_quiet = await asyncio.to_thread(_is_quiet, admin, self._settings, dict(self._read))
                num_quiet = num_quiet + 1 if is_quiet else 0
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            await asyncio.to_thread(admin.close)

    async def aclose(self) -> None:
        """Leave every group and disconnect; what was not acknowledged is delivered again."""
        self._is_closed = True
        await asyncio.gather(*(subscription.aclose() for subscription in tuple(self._open)))
        await self._publisher.aclose()


def _read_apart(topic: Topic) -> tuple[list[str], list[str]]:
    """What is read by a member of a broker's group of its own: the topic, and the delay topics beside it. In one group
    a member may get as many partitions as the others and yet none of those where the work is."""
    return [topic.name], [retry_name(topic.name, tier_s) for tier_s in RETRY_TIERS_S]


def _is_quiet(admin: KafkaAdminClient, settings: KafkaSettings, read: Mapping[str, set[str]]) -> bool:
    """Whether every group in `read` has committed the ends of its topics."""
    from kafka.admin import OffsetSpec
    from kafka.structs import TopicPartition

    names = sorted(set().union(*read.values()))
    if not names:
        return True
    partitions = [
        TopicPartition(topic["name"], each["partition_index"])
        for topic in admin.describe_topics(names)
        for each in topic["partitions"]
    ]
    first = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
    last = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    committed = admin.list_group_offsets([settings.named(group) for group in read])
    for group, topics in read.items():
        done = committed[settings.named(group)]
        for tp in partitions:
            if tp.topic in topics:
                reached = done[tp].offset if tp in done else -1
                if last[tp].offset > max(reached, first[tp].offset):
                    return False
    return True
