"""The Kafka bus while brokers are killed, refuse what is written, and members stall: nothing is lost.

On brokers of its own: three where TRACEMEND_SERVERS_CTL is a command, and then leaders change; with compose, the one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.test_bus import message, take
from tests.contract.test_kafka_bus import collect, committed, raw
from tests.kafka_topics_for_tests import kafka_namespace
from tests.servers import Control, broken, own_servers

from tracemend.adapters.kafka_bus import KafkaBus
from tracemend.adapters.kafka_clients import KafkaSettings, open_admin
from tracemend.adapters.kafka_topics import KafkaTopics, Replication
from tracemend.kit.errors import Retry
from tracemend.topics import GENERATIONS
from tracemend.wire import WireCodec

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kafka_faults")]


@pytest.fixture(scope="module")
def brokers() -> Iterator[tuple[Control, Mapping[str, str]]]:
    with own_servers("kafka", "--brokers", "3") as (control, environ):
        yield control, environ


def url_of(brokers: tuple[Control, Mapping[str, str]]) -> str:
    return f"kafka:{brokers[1]['KAFKA_BOOTSTRAP_SERVERS']}"


def num_brokers(brokers: tuple[Control, Mapping[str, str]]) -> int:
    return len(brokers[1]["KAFKA_BOOTSTRAP_SERVERS"].split(","))


def asked(settings: KafkaSettings, question: Callable[..., object]) -> Awaitable[object]:
    def ask() -> object:
        admin = open_admin(settings)
        try:
            return question(admin)
        finally:
            admin.close()

    return asyncio.to_thread(ask)


async def leader_of(settings: KafkaSettings) -> str:
    """The server that leads the first partition of the topic."""

    def find(admin: object) -> str:
        (topic,) = admin.describe_topics([settings.named(GENERATIONS.name)])  # type: ignore[attr-defined]
        return f"kafka-{topic['partitions'][0]['leader_id']}"

    return str(await asked(settings, find))


async def publish_through(bus: KafkaBus, names: list[str]) -> None:
    """In batches, each as often as it takes: what the pump does."""
    for start in range(0, len(names), 20):
        while True:
            try:
                await bus.publish([message(name) for name in names[start : start + 20]])
                break
            except Retry as busy:
                await asyncio.sleep(busy.after_s)
        await asyncio.sleep(0.05)


async def test_a_leader_that_is_killed_under_load_takes_nothing_with_it(
    brokers: tuple[Control, Mapping[str, str]],
) -> None:
    """With one broker, its restart."""
    factor = min(3, num_brokers(brokers))
    replication = Replication(factor=factor, min_isr=max(1, factor - 1))
    async with kafka_namespace(topics=(GENERATIONS,), url=url_of(brokers), replication=replication) as settings:
        bus = KafkaBus(replace(settings, session_timeout_s=6, request_timeout_s=5), WireCodec())
        names, seen = [f"m{number}" for number in range(1000)], list[str]()
        collecting = asyncio.create_task(collect(bus.subscribe([GENERATIONS], group="g"), seen, 0.001))
        publishing = asyncio.create_task(publish_through(bus, names))
        while not seen:  # noqa: ASYNC110 - it is appended to by a task
            await asyncio.sleep(0.1)
        victim = await leader_of(settings)
        await asyncio.to_thread(outage, brokers[0], victim)
        await asyncio.wait_for(publishing, 60)
        await asyncio.wait_for(bus.drained(), 60)
        await bus.aclose()
        await collecting
        assert set(seen) == set(names)
        assert len(seen) < 2 * len(names)  # the few that repeat were under way


def outage(control: Control, name: str) -> None:
    with broken(control, name, "kill"):
        pass


async def test_a_write_that_too_few_replicas_have_is_refused_and_its_input_not_committed(
    brokers: tuple[Control, Mapping[str, str]],
) -> None:
    if num_brokers(brokers) < 3:
        pytest.skip("needs three brokers: TRACEMEND_SERVERS_CTL with a command that starts them")
    replication = Replication(factor=3, min_isr=3)
    async with kafka_namespace(topics=(GENERATIONS,), url=url_of(brokers), replication=replication) as settings:
        patient = replace(settings, delivery_timeout_s=3, request_timeout_s=2)
        bus = KafkaBus(patient, WireCodec())
        subscription = bus.subscribe([GENERATIONS], group="g")
        await bus.publish([message("a"), message("b")])
        held = [await take(subscription) for _ in range(2)]
        victim = "kafka-3" if await leader_of(settings) != "kafka-3" else "kafka-2"
        with broken(brokers[0], victim, "kill"):
            with pytest.raises(Retry, match="kafka"):
                await bus.publish([message("c")])
            burying = asyncio.create_task(held[0].bury(reason="hopeless"))
            await held[1].ack()
            await asyncio.sleep(4)
            assert not burying.done()
            assert (await committed(settings, "g")).get(GENERATIONS.name, 0) == 0
        await asyncio.wait_for(burying, 30)
        seen: list[str] = []
        collecting = asyncio.create_task(collect(subscription, seen))
        await asyncio.wait_for(bus.drained(), 30)
        await bus.aclose()
        await collecting
        assert "a" in {
            dict(letter.headers)["ce_id"].decode() for letter in await raw(settings, f"{GENERATIONS.name}.dlq")
        }


async def test_a_topic_that_is_missing_is_refused_and_never_made_by_accident(
    brokers: tuple[Control, Mapping[str, str]],
) -> None:
    async with kafka_namespace(topics=(), url=url_of(brokers)) as settings:
        bus = KafkaBus(replace(settings, request_timeout_s=2), WireCodec())
        subscription = bus.subscribe([GENERATIONS], group="g")
        with pytest.raises(Retry, match="kafka"):
            await bus.publish([message("a")])
        names = await asked(settings, lambda admin: list(admin.list_topics()))
        assert settings.named(GENERATIONS.name) not in names  # type: ignore[operator]
        await KafkaTopics(settings, Replication(factor=1, min_isr=1)).apply([replace(GENERATIONS, partitions=1)])
        await bus.publish([message("a")])
        await (await asyncio.wait_for(anext(subscription), 30)).ack()
        await asyncio.wait_for(bus.drained(), 30)
        await bus.aclose()


async def test_a_member_that_stalls_beyond_its_session_commits_nothing_wrong_and_its_work_is_done_elsewhere(
    brokers: tuple[Control, Mapping[str, str]],
) -> None:
    async with kafka_namespace(topics=(GENERATIONS,), url=url_of(brokers)) as settings:
        bus = KafkaBus(replace(settings, session_timeout_s=6), WireCodec())
        await bus.publish([message(f"m{number}") for number in range(10)])
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("kafka_worker.py")),
            *(settings.namespace, "g", "5", "2"),
            env={**os.environ, **brokers[1]},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert worker.stdout is not None
        assert worker.stdin is not None
        try:
            assert await asyncio.wait_for(worker.stdout.readline(), 30) == b"working\n"
            worker.send_signal(signal.SIGSTOP)
            subscription = bus.subscribe([GENERATIONS], group="g")
            held = [await asyncio.wait_for(anext(subscription), 30) for _ in range(8)]
            assert [delivery.message.record.id for delivery in held] == [f"m{number}" for number in range(2, 10)]
            await held[0].ack()
            worker.send_signal(signal.SIGCONT)
            worker.stdin.write(b"acknowledge\n")
            assert await asyncio.wait_for(worker.stdout.readline(), 30) == b"acknowledged\n"
            assert (await committed(settings, "g"))[GENERATIONS.name] <= 3  # m3 and m4 are not done here
            for delivery in held[1:]:
                await delivery.ack()
            seen: list[str] = []  # repeats of what was done, if the late one took the partition again
            later = asyncio.create_task(collect(subscription, seen))
            await asyncio.wait_for(bus.drained(), 40)
            assert (await committed(settings, "g"))[GENERATIONS.name] == 10
            await bus.aclose()
            await later
        finally:
            with suppress(ProcessLookupError):
                worker.kill()
            await worker.wait()
