"""What the Kafka bus promises beyond the port's contract, on real brokers."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.contract.test_bus import message, take
from tests.kafka_topics_for_tests import kafka_namespace

from tracemend.adapters.folder_store import FolderStore
from tracemend.adapters.kafka_bus import KafkaBus
from tracemend.adapters.kafka_clients import KafkaSettings, open_admin, open_consumer, open_producer, settings_of
from tracemend.adapters.kafka_consumer import Limits, Reader
from tracemend.adapters.kafka_dead_letters import KafkaDeadLetters
from tracemend.adapters.kafka_topics import KafkaTopics, Replication
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import Subscription
from tracemend.kit.telemetry import NO_TELEMETRY
from tracemend.topics import CHECKPOINTS, CONTINUATIONS, GENERATIONS
from tracemend.wire import WireCodec

RETRY_30 = f"{GENERATIONS.name}.retry.30s"
DEAD = f"{GENERATIONS.name}.dlq"


@pytest.fixture
async def settings() -> AsyncIterator[KafkaSettings]:
    async with kafka_namespace(topics=(GENERATIONS,)) as settings:
        yield settings


class HostileName(str):
    """A header name that goes out as bytes that are no UTF-8."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe"


async def raw(settings: KafkaSettings, name: str) -> list[Any]:
    """Every record of a topic with one partition, as it lies on the broker."""

    def read() -> list[Any]:
        from kafka.structs import TopicPartition

        consumer, tp = open_consumer(settings, group=None), TopicPartition(settings.named(name), 0)
        consumer.assign([tp])
        consumer.seek_to_beginning(tp)
        records: list[Any] = []
        while consumer.position(tp) < consumer.end_offsets([tp])[tp]:
            records += consumer.poll(timeout_ms=500).get(tp, [])
        consumer.close()
        return records

    return await asyncio.to_thread(read)


async def committed(settings: KafkaSettings, group: str) -> dict[str, int]:
    """Topic to the sum of the offsets that a group has committed on it."""

    def ask() -> dict[str, int]:
        admin = open_admin(settings)
        name = settings.named(f"{group}.{GENERATIONS.name}")
        found = admin.list_group_offsets(name)[name]
        admin.close()
        sums: Counter[str] = Counter()
        for tp, at in found.items():
            sums[settings.unnamed(tp.topic)] += max(at.offset, 0)
        return dict(sums)

    return await asyncio.to_thread(ask)


async def collect(subscription: Subscription, into: list[str], pause_s: float = 0.0) -> None:
    async for delivery in subscription:
        await asyncio.sleep(pause_s)
        into.append(delivery.message.record.id)
        await delivery.ack()


async def test_work_that_outlasts_the_poll_interval_keeps_its_partition_and_commits(settings: KafkaSettings) -> None:
    bus = KafkaBus(replace(settings, max_poll_interval_s=2, session_timeout_s=6), WireCodec())
    subscription = bus.subscribe([GENERATIONS], group="g")
    await bus.publish([message("a")])
    delivery = await take(subscription)
    await asyncio.sleep(5)
    await delivery.ack()
    await asyncio.wait_for(bus.drained(), 40)
    assert (await committed(settings, "g"))[GENERATIONS.name] == 1
    await bus.aclose()


async def test_a_joining_member_gets_partitions_and_nothing_is_worked_twice_or_lost() -> None:
    async with kafka_namespace(partitions=6, topics=(GENERATIONS,)) as settings:
        first, second = KafkaBus(settings, WireCodec()), KafkaBus(settings, WireCodec())
        names = [f"m{number}" for number in range(300)]
        seen: tuple[list[str], list[str]] = ([], [])
        tasks = [asyncio.create_task(collect(first.subscribe([GENERATIONS], group="g"), seen[0], 0.01))]
        await first.publish([message(name) for name in names[:150]])
        await asyncio.sleep(2)
        tasks.append(asyncio.create_task(collect(second.subscribe([GENERATIONS], group="g"), seen[1], 0.01)))
        await asyncio.sleep(4)
        await first.publish([message(name) for name in names[150:]])
        await asyncio.wait_for(first.drained(), 30)
        await asyncio.gather(first.aclose(), second.aclose())
        await asyncio.gather(*tasks)
        assert sorted(seen[0] + seen[1]) == sorted(names)
        assert seen[1]


async def test_what_a_killed_process_had_not_acknowledged_comes_again(settings: KafkaSettings) -> None:
    bus = KafkaBus(replace(settings, session_timeout_s=6), WireCodec())
    await bus.publish([message(f"m{number}") for number in range(10)])
    script = Path(__file__).with_name("kafka_worker.py")
    worker = await asyncio.create_subprocess_exec(
        sys.executable, str(script), settings.namespace, "g", "10", "3", stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    assert await asyncio.wait_for(worker.stdout.readline(), 30) == b"working\n"
    worker.kill()
    await worker.wait()
    seen: list[str] = []
    collecting = asyncio.create_task(collect(bus.subscribe([GENERATIONS], group="g"), seen))
    await asyncio.wait_for(bus.drained(), 30)
    await bus.aclose()
    await collecting
    assert seen == [f"m{number}" for number in range(3, 10)]


async def test_a_failed_delivery_report_fails_the_publishing_and_keeps_the_input_uncommitted(
    settings: KafkaSettings,
) -> None:
    """The broker refuses every record of the dead letters as too large: a real report of failure."""
    bus = KafkaBus(settings, WireCodec())
    await bus.publish([message("a"), message("b")])
    await asyncio.to_thread(_limit, settings, 20)
    subscription = bus.subscribe([GENERATIONS], group="g")
    first, second = await take(subscription), await take(subscription)
    with pytest.raises(SetupError, match=r"max\.message\.bytes"):
        await first.bury(reason="hopeless")
    await second.ack()
    await asyncio.sleep(1)
    assert (await committed(settings, "g")).get(GENERATIONS.name, 0) == 0
    await asyncio.to_thread(_limit, settings, 100_000)
    await first.bury(reason="hopeless")
    await asyncio.wait_for(bus.drained(), 20)
    assert (await committed(settings, "g"))[GENERATIONS.name] == 2
    assert len(await raw(settings, DEAD)) == 1
    await bus.aclose()


def _limit(settings: KafkaSettings, max_bytes: int) -> None:
    """How large the records of the dead letters may be."""
    from kafka.admin import ConfigResource, ConfigResourceType

    admin = open_admin(settings)
    configs = {"max.message.bytes": str(max_bytes)}
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.named(DEAD), configs=configs)])
    time.sleep(1)  # the broker heeds it a moment later
    admin.close()


async def test_large_bodies_travel_as_claim_checks(settings: KafkaSettings, tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    bus = KafkaBus(settings, WireCodec(), store=store)
    sent = [message("large", text="x" * 600_000), message("lost", text="y" * 600_000), message("small", text="z")]
    await bus.publish(sent)
    records = await raw(settings, GENERATIONS.name)
    assert [len(record.value or b"") > 0 for record in records] == [False, False, True]
    await store.delete(dict(records[1].headers)["tm_claim"].decode())
    subscription = bus.subscribe([GENERATIONS], group="g")
    arrived = [await take(subscription) for _ in range(2)]
    assert [delivery.message for delivery in arrived] == [sent[0], sent[2]]
    await bus.aclose()
    (waiting,) = await raw(settings, RETRY_30)  # a blob that is missing may still be restored
    assert dict(waiting.headers)["ce_id"] == b"lost"


async def test_a_body_that_does_not_match_its_digest_is_buried(settings: KafkaSettings) -> None:
    bus = KafkaBus(settings, WireCodec())
    await bus.publish([message("good")])
    (record,) = await raw(settings, GENERATIONS.name)
    producer = open_producer(settings)
    name = settings.named(GENERATIONS.name)
    producer.send(name, key=b"k", value=record.value + b"\x00", headers=record.headers).get(10)
    producer.send(name, key=b"k", value=b"\xff\xff no message").get(10)
    producer.send(name, key=b"k", value=None, headers=[("tm_due", b"soon"), ("tm_attempt", b"9" * 30)]).get(10)
    producer.close()
    await bus.publish([message("last")])
    subscription = bus.subscribe([GENERATIONS], group="g")
    seen: list[str] = []
    collecting = asyncio.create_task(collect(subscription, seen))
    await asyncio.wait_for(bus.drained(), 20)
    await bus.aclose()
    await collecting
    assert seen == ["good", "last"]
    buried = await raw(settings, DEAD)
    reasons = [dict(letter.headers)["tm_dead_reason"] for letter in buried]
    assert reasons == [b"wrong_digest", b"malformed", b"wrong_type"]
    assert buried[1].value == b"\xff\xff no message"


async def test_a_header_name_that_is_no_utf8_is_buried_and_what_follows_in_its_batch_is_worked(
    settings: KafkaSettings,
) -> None:
    bus, producer, name = KafkaBus(settings, WireCodec()), open_producer(settings), settings.named(GENERATIONS.name)
    await bus.publish([message("good")])
    (good,) = await raw(settings, GENERATIONS.name)
    sent = [
        producer.send(name, key=b"k", value=b"evil", headers=[(HostileName("name"), b"v")]),
        producer.send(name, key=good.key, value=good.value, headers=good.headers),
    ]
    for one in sent:
        one.get(10)
    producer.close()
    subscription = bus.subscribe([GENERATIONS], group="g")
    seen: list[str] = []
    collecting = asyncio.create_task(collect(subscription, seen))
    await asyncio.wait_for(bus.drained(), 20)
    await bus.aclose()
    await collecting
    assert seen == ["good", "good"]
    (letter,) = await raw(settings, DEAD)
    assert dict(letter.headers)["tm_dead_reason"] == b"header_not_utf8"
    assert b"evil" in letter.value
    assert b"\xff\xfe" in letter.value


async def test_a_dead_letter_keeps_its_bytes_and_is_redriven_to_its_group_alone(settings: KafkaSettings) -> None:
    bus = KafkaBus(settings, WireCodec())
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    await bus.publish([replace(message("a"), trace=trace), message("b")])
    mine, others = (bus.subscribe([GENERATIONS], group=name) for name in ("mine", "others"))
    for reason in ("hopeless", "crashed"):
        await (await take(mine)).bury(reason=reason)
        await (await take(others)).ack()
    original, buried = await raw(settings, GENERATIONS.name), await raw(settings, DEAD)
    for before, after in zip(original, buried, strict=True):
        assert (before.key, before.value) == (after.key, after.value)
        assert set(before.headers) <= set(after.headers)
    grave = KafkaDeadLetters(settings)
    letters = [letter async for letter in grave.letters([GENERATIONS], reason="hopeless", run="run")]
    assert [(one.record, one.group, one.origin) for one in letters] == [("a", "mine", f"{GENERATIONS.name}/0/0")]
    assert await grave.redrive(letters, redrive="r1", dry_run=True) == 1
    assert len(await raw(settings, GENERATIONS.name)) == 2
    assert [await grave.redrive(letters, redrive="r1", per_s=50) for _ in range(2)] == [1, 0]
    again = await take(mine)
    assert (again.message.record.id, again.message.trace) == ("a", trace)
    await again.ack()
    assert [letter.record async for letter in grave.letters([GENERATIONS])] == ["b"]
    assert [letter.redrive async for letter in grave.letters([GENERATIONS], redriven=True)] == ["r1", ""]
    await asyncio.wait_for(bus.drained(), 20)  # "others" passed it by
    await grave.aclose()
    await bus.aclose()


async def test_reading_stops_at_the_high_water_mark_and_goes_on_below_the_low_one(settings: KafkaSettings) -> None:
    bus = KafkaBus(settings, WireCodec(), limits=Limits(high_water=20, low_water=10, window=50))
    names = [f"m{number}" for number in range(900)]
    await bus.publish([message(name) for name in names])
    subscription = bus.subscribe([GENERATIONS], group="g")
    oldest = await take(subscription)
    seen: list[str] = []
    collecting = asyncio.create_task(collect(subscription, seen))
    await asyncio.sleep(3)
    num_read = len(seen)
    assert num_read < len(names) - 1  # what is done waits for the oldest, and no more is read
    await oldest.ack()
    await asyncio.wait_for(bus.drained(), 30)
    await bus.aclose()
    await collecting
    assert [oldest.message.record.id, *seen] == names


async def test_a_partition_that_comes_to_a_member_with_enough_to_do_waits_as_its_others_do() -> None:
    async with kafka_namespace(partitions=2, topics=(GENERATIONS,)) as settings:
        bus = KafkaBus(settings, WireCodec(), limits=Limits(high_water=20, low_water=10))
        staying, leaving = (member_of(bus, settings) for _ in range(2))
        await until(lambda: len(staying._partitions) == len(leaving._partitions) == 1)
        await bus.publish([message(f"m{number}") for number in range(400)])
        buffered = staying._buffers[GENERATIONS.name]
        await until(lambda: len(buffered) >= 20)
        (own,) = staying._partitions.values()
        leaving.stop()
        await asyncio.to_thread(leaving.join)
        await until(lambda: len(staying._partitions) == 2)
        await asyncio.sleep(2)
        assert {entry.partition.number for entry in buffered} == {own.number}
        worked: set[int] = set()
        while len(worked) < 2:  # what is worked makes room, for the new one as well
            await until(lambda: bool(buffered))
            entry = staying.pop(GENERATIONS.name)
            assert entry is not None
            worked.add(entry.partition.number)
            entry.partition.finish(entry.offset)
        staying.stop()
        await asyncio.to_thread(staying.join)
        await bus.aclose()


def member_of(bus: KafkaBus, settings: KafkaSettings) -> Reader:
    """A member of group g that reads, and hands out nothing by itself."""
    sources = {settings.named(GENERATIONS.name): (GENERATIONS.name, GENERATIONS.name)}
    return Reader(
        settings,
        sources,
        group="g",
        joined=settings.named("g"),
        news=asyncio.Event(),
        telemetry=NO_TELEMETRY,
        limits=bus._limits,
    )


async def until(condition: Callable[[], bool], *, within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - a thread of the client's changes it
            await asyncio.sleep(0.02)


async def test_topics_are_made_compared_and_missed(settings: KafkaSettings) -> None:
    keeper = KafkaTopics(settings, Replication(factor=1, min_isr=1))
    topics = [replace(topic, partitions=2) for topic in (GENERATIONS, CHECKPOINTS)]
    with pytest.raises(SetupError, match=r"lacks the topics .*checkpoints.*tracemend topics apply"):
        await keeper.check(topics)
    told = await keeper.differences(topics)
    assert f"{GENERATIONS.name}: 1 partitions, not 2" in told
    assert f"{CHECKPOINTS.name}.dlq: missing" in told
    await keeper.apply(topics)
    await keeper.check(topics)
    assert await keeper.differences(topics) == []
    assert await keeper.differences([replace(topics[0], retention_hours=1)])


async def test_a_check_keeps_its_connection_and_brokers_that_went_away_are_no_mistake(settings: KafkaSettings) -> None:
    await KafkaTopics(settings, Replication(factor=1, min_isr=1)).apply([GENERATIONS])
    door = await door_to(settings.bootstrap[0])
    port = door.sockets[0].getsockname()[1]
    keeper = KafkaTopics(replace(settings, bootstrap=(f"127.0.0.1:{port}",), connect_timeout_s=5.0))
    await keeper.check([GENERATIONS])
    first = keeper._checking
    await keeper.check([GENERATIONS])
    assert keeper._checking is first is not None
    await keeper.aclose()
    door.close()
    with pytest.raises(Retry, match="did not let us in"):
        await keeper.check([GENERATIONS])


async def door_to(broker: str) -> asyncio.Server:
    """Another address of a broker, that can be closed."""
    host, _, port = broker.rpartition(":")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(2**16):
            writer.write(chunk)
        writer.close()

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))

    return await asyncio.start_server(enter, "127.0.0.1", 0)


@pytest.mark.parametrize(
    "url",
    ["kafka:", "kafka:host", "kafka:host:port", "kafka:h:1?namespce=x", "kafka:me:secret@h:1"],
    ids=["none", "host", "port", "option", "password"],
)
def test_a_url_that_is_none_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(SetupError, match="bus URL"):
        settings_of(url)


async def test_a_wrong_address_or_password_says_what_to_check() -> None:
    nowhere = replace(settings_of("kafka:127.0.0.1:1"), connect_timeout_s=1.0)
    with pytest.raises(SetupError, match="check that the address"):
        await KafkaTopics(nowhere).check([CONTINUATIONS])
    if os.environ.get("KAFKA_SASL_USERNAME"):
        environ = {**os.environ, "KAFKA_SASL_PASSWORD": uuid.uuid4().hex}
        refused = settings_of(f"kafka:{os.environ['KAFKA_BOOTSTRAP_SERVERS']}", environ)
        with pytest.raises(SetupError, match="KAFKA_SASL_PASSWORD"):
            await KafkaTopics(replace(refused, connect_timeout_s=5.0)).check([CONTINUATIONS])
