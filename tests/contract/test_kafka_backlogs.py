"""What waits in Kafka, as nobody's member sees it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from tests.contract.test_bus import message, take
from tests.contract.test_kafka_bus import door_to
from tests.kafka_topics_for_tests import kafka_namespace

from tracemend.adapters.kafka_backlogs import KafkaBacklogs
from tracemend.adapters.kafka_bus import KafkaBus
from tracemend.adapters.kafka_clients import KafkaSettings
from tracemend.kit.bus_ports import Backlog
from tracemend.kit.errors import Retry, SetupError
from tracemend.runtime.opening import open_backlogs
from tracemend.topics import GENERATIONS
from tracemend.wire import WireCodec

RETRY = f"{GENERATIONS.name}.retry"


@pytest.fixture
async def settings() -> AsyncIterator[KafkaSettings]:
    async with kafka_namespace(topics=(GENERATIONS,)) as settings:
        yield settings


async def read_until(backlogs: KafkaBacklogs, is_so: Callable[[dict[str, Backlog]], bool]) -> dict[str, Backlog]:
    """Topic to what waits of it, once it is so."""
    found: dict[str, Backlog] = {}
    async with asyncio.timeout(60):
        while not found or not is_so(found):
            found = {one.topic: one for one in await backlogs.read()}
            await asyncio.sleep(0.2)
    return found


async def test_a_group_s_backlog_is_told_in_items_and_seconds_while_it_works_and_after_it_has_left(
    settings: KafkaSettings,
) -> None:
    bus, backlogs = KafkaBus(settings, WireCodec()), KafkaBacklogs(settings)
    subscription = bus.subscribe([GENERATIONS], group="generator-t.5b")
    await bus.publish([message(name) for name in "abc"])
    first = await take(subscription)
    working = await read_until(backlogs, lambda found: found[GENERATIONS.name].oldest_s > 1)
    assert working[GENERATIONS.name].num_items == 3
    assert working[GENERATIONS.name].num_members == 1
    await first.ack()
    await (await take(subscription)).nack(delay_s=30)
    put_back = await read_until(backlogs, lambda found: found[RETRY].num_items == 1)
    assert put_back[RETRY].group == "generator-t.5b"
    await subscription.aclose()
    left = await read_until(backlogs, lambda found: found[GENERATIONS.name].num_members == 0)
    assert left[GENERATIONS.name].num_items == 1
    assert left[GENERATIONS.name].oldest_s > working[GENERATIONS.name].oldest_s
    await backlogs.aclose()
    await bus.aclose()


async def test_groups_of_other_namespaces_are_not_told(settings: KafkaSettings) -> None:
    async with kafka_namespace(topics=(GENERATIONS,)) as others:
        bus, backlogs = KafkaBus(others, WireCodec()), KafkaBacklogs(settings)
        await bus.publish([message("a")])
        await take(bus.subscribe([GENERATIONS], group="g"))
        theirs = KafkaBacklogs(others)
        await read_until(theirs, lambda found: found[GENERATIONS.name].num_members == 1)
        assert await backlogs.read() == ()
        for one in (theirs, backlogs, bus):
            await one.aclose()


async def test_a_bus_that_never_answered_is_a_mistake_and_only_kafka_tells_what_waits() -> None:
    backlogs = open_backlogs("kafka:127.0.0.1:9")
    with pytest.raises(SetupError, match=re.escape("127.0.0.1:9")):
        await backlogs.read()
    with pytest.raises(SetupError, match="scheme"):
        open_backlogs("memory:")


async def test_brokers_that_went_away_are_waited_for(settings: KafkaSettings) -> None:
    door = await door_to(settings.bootstrap[0])
    address = f"127.0.0.1:{door.sockets[0].getsockname()[1]}"
    backlogs = KafkaBacklogs(replace(settings, bootstrap=(address,), connect_timeout_s=5.0))
    assert await backlogs.read() == ()
    await backlogs.aclose()
    door.close()
    with pytest.raises(Retry, match=re.escape(address)):
        await backlogs.read()
