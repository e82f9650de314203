"""Whatever lies on the topics, no consumer falls: what is a message is delivered, everything else is a dead letter.

TRACEMEND_FUZZ is how many messages are thrown, 50,000 where it is unset.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.golden.samples import SAMPLES
from tests.kafka_topics_for_tests import kafka_namespace
from tests.mutations import hostile_value, mutated

from tracemend.adapters.folder_store import FolderStore
from tracemend.adapters.kafka_bus import KafkaBus
from tracemend.adapters.kafka_clients import KafkaSettings, open_producer
from tracemend.adapters.kafka_dead_letters import KafkaDeadLetters
from tracemend.adapters.kafka_envelope import (
    ATTEMPT,
    CLAIM,
    DEAD_REASON,
    DEAD_TIME,
    DIGEST,
    DUE,
    ORIGIN,
    REDRIVE,
    REDRIVEN,
    RUN,
    SIZE,
    Headers,
    Parcel,
    headers_of,
    pack,
    pairs_of,
    unpack,
)  # fmt: skip
from tracemend.kit.errors import Reject
from tracemend.kit.ports import Context, Message
from tracemend.records import Unit
from tracemend.topics import ALL, Topic
from tracemend.wire import WireCodec

NUMBER = int(os.environ.get("TRACEMEND_FUZZ", "50_000"))
NUM_ON_BROKERS = NUMBER // 20
_CONTEXT = Context(run="run", plan="ab" * 32, epoch=1, unit=Unit(arm="a", prompt="p"), siblings=("x",))
_OURS = (ATTEMPT, DEAD_REASON, DEAD_TIME, DIGEST, DUE, ORIGIN, REDRIVE, REDRIVEN, RUN, SIZE)
_OTHERS = ("ce_id", "ce_type", "traceparent", "tracestate", "content-type", "x", "é" * 40, "")
_ABSENT = b"0" * 64
_CODEC = WireCodec()


def parcels() -> dict[Topic, Parcel]:
    """A good parcel of each topic."""
    samples = {type(sample): sample for sample in SAMPLES}
    return {topic: pack(Message(topic=topic, record=samples[topic.record], context=_CONTEXT), _CODEC) for topic in ALL}


def thrown(number: int, *, seed: int) -> Iterator[tuple[Topic, bytes | None, bytes | None, list[tuple[str, Any]]]]:
    """(topic, key, value, headers) of hostile messages, every tenth of them good."""
    good = parcels()
    bodies = [parcel.body for parcel in good.values()]
    for index in range(number):
        rng = random.Random(f"{seed}/{index}")
        topic = rng.choice(ALL)
        parcel = good[topic]
        headers: list[tuple[str, Any]] = pairs_of(parcel.headers)
        if index % 10 == 0:
            yield topic, parcel.key, parcel.body, headers
            continue
        value = rng.choice((mutated(rng, [parcel.body]), mutated(rng, bodies), rng.choice(bodies)))
        if rng.random() < 0.5:  # the digest would refuse all else before it is parsed
            headers = [(name, content) for name, content in headers if name != DIGEST]
        headers += list(_hostile_headers(rng))
        key = rng.choice((parcel.key, None, b"\xff"))
        yield topic, key, value if key is None else rng.choice((value, value, value, None)), headers


def _hostile_headers(rng: random.Random) -> Iterator[tuple[str, Any]]:
    for _ in range(rng.randrange(4)):
        yield rng.choice(_OURS + _OTHERS), hostile_value(rng, b"1234.5")
    if rng.random() < 0.1:  # the last attempt on what is not there: earlier ones wait for half a minute
        yield ATTEMPT, b"20"
        yield CLAIM, hostile_value(rng, _ABSENT)


def test_every_parcel_is_a_message_or_refused_with_a_code() -> None:
    ends: Counter[str] = Counter()
    for topic, key, value, headers in thrown(NUMBER, seed=3):
        parcel = Parcel(topic=topic.name, key=key or b"", body=value or b"", headers=headers_of(headers))
        try:
            unpack(parcel, topic, _CODEC)
        except Reject as refused:
            ends[refused.reason] += 1
        else:
            ends["read"] += 1
    assert set(ends) == {"read", "malformed", "wrong_digest", "wrong_type", "unset_enum", "unset_field"}, ends
    assert ends["read"] >= NUMBER / 10


@pytest.mark.servers
async def test_what_no_consumer_can_read_is_buried_and_listed(tmp_path: Path) -> None:
    async with kafka_namespace(partitions=2, topics=ALL) as settings:
        sent = await asyncio.to_thread(send, settings)
        bus = KafkaBus(settings, _CODEC, store=FolderStore(tmp_path))
        subscription = bus.subscribe(ALL, group="g")
        delivered: list[Message] = []

        async def read() -> None:
            async for delivery in subscription:
                delivered.append(delivery.message)
                await delivery.ack()

        readers = [asyncio.create_task(read()) for _ in range(64)]
        drained = asyncio.create_task(bus.drained())
        await asyncio.wait([drained, *readers], timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert drained.done(), f"{len(delivered)} of {sent} were delivered, and not all others buried"
        await drained
        await bus.aclose()
        await asyncio.gather(*readers)
        letters = KafkaDeadLetters(settings)
        listed = [letter async for letter in letters.letters(ALL, redriven=True)]
        await letters.aclose()
    assert len(delivered) + len(listed) == sent
    assert len(delivered) >= sent / 10
    reasons = Counter(letter.reason for letter in listed)
    assert {"malformed", "wrong_digest", "wrong_type", "claim_missing"} <= set(reasons), reasons


def send(settings: KafkaSettings) -> int:
    """Send everything; how much that is."""
    producer = open_producer(settings)
    futures = [
        producer.send(settings.named(topic.name), key=key, value=value, headers=headers)
        for topic, key, value, headers in thrown(NUM_ON_BROKERS, seed=5)
    ]
    for future in futures:
        future.get(60)
    producer.close()
    return len(futures)


def test_headers_from_anybody_are_text() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        pairs = [*_hostile_headers(rng), ("ce_id", rng.randbytes(9))]
        headers: Headers = headers_of(pairs)
        assert dict(pairs_of(headers)).keys() == dict(pairs).keys()
