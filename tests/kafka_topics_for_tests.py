"""Kafka for tests: the real brokers of KAFKA_BOOTSTRAP_SERVERS, in a namespace that is removed afterwards."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.needs import needs_server

from tracemend.adapters.kafka_clients import KafkaSettings, open_admin, settings_of
from tracemend.adapters.kafka_topics import KafkaTopics, Replication
from tracemend.topics import CHECKPOINTS, CONTINUATIONS, GENERATIONS, Topic

TOPICS = (CONTINUATIONS, GENERATIONS, CHECKPOINTS)
SINGLE = Replication(factor=1, min_isr=1)


@asynccontextmanager
async def kafka_namespace(
    *,
    partitions: int = 1,
    topics: Sequence[Topic] = TOPICS,
    url: str = "",
    replication: Replication = SINGLE,
) -> AsyncIterator[KafkaSettings]:
    """Settings for a namespace of its own that holds `topics` and the topics beside them."""
    address = url or f"kafka:{needs_server('KAFKA_BOOTSTRAP_SERVERS')}"
    settings = settings_of(f"{address}?namespace=test-{uuid.uuid4().hex[:12]}")
    keeper = KafkaTopics(settings, replication)
    await keeper.apply([replace(topic, partitions=partitions) for topic in topics])
    try:
        yield settings
    finally:
        await asyncio.to_thread(remove_namespace, settings)


def remove_namespace(settings: KafkaSettings) -> None:
    """Delete its topics and groups; nobody may read or write there any more."""
    admin = open_admin(settings)
    try:
        admin.delete_topics([name for name in admin.list_topics() if name.startswith(f"{settings.namespace}.")])
        groups = [group["group_id"] for group in admin.list_groups()]
        mine = [group for group in groups if group.startswith(f"{settings.namespace}.")]
        if mine:
            admin.delete_groups(mine)
    finally:
        admin.close()
