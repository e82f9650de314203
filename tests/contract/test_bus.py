"""What every bus does: `kit.ports.Bus` in code. Adapters join by a line in `OPEN`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import pytest
from tests.kafka_topics_for_tests import kafka_namespace

from tracemend import topics
from tracemend.adapters.kafka_bus import KafkaBus
from tracemend.adapters.memory_bus import MemoryBus
from tracemend.kit.errors import Reject, Retry
from tracemend.kit.ports import Bus, Context, Delivery, Message, Subscription
from tracemend.records import Category, Checkpoint, GenerationRequest, Prompt, Sampling, Unit
from tracemend.redaction import Text
from tracemend.wire import WireCodec


@asynccontextmanager
async def memory_bus() -> AsyncIterator[Bus]:
    yield MemoryBus(WireCodec())


@asynccontextmanager
async def kafka_bus() -> AsyncIterator[Bus]:
    async with kafka_namespace() as settings:
        yield KafkaBus(settings, WireCodec())


OPEN: dict[str, Callable[[], AbstractAsyncContextManager[Bus]]] = {"memory": memory_bus, "kafka": kafka_bus}
CONTEXT = Context(run="run", plan="plan", epoch=2, unit=Unit(arm="a", prompt="p"), siblings=("x", "y"))


@pytest.fixture(params=OPEN)
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    async with OPEN[request.param]() as opened:
        yield opened
        await opened.aclose()


async def until_it_is_there(bus: Bus) -> None:
    """What was published lies in the buffers of its subscriptions: with a real broker that takes a moment."""
    if not isinstance(bus, MemoryBus):
        await asyncio.sleep(2.0)


def message(name: str, *, topic: topics.Topic = topics.GENERATIONS, text: str = "") -> Message:
    prompt = Prompt(id="p", text=Text(text), category=Category.BENIGN, tags={"k": "v"})
    request = GenerationRequest(id=name, prompt=prompt, model="m", sampling=Sampling(), sample=0, seed=1)
    return Message(topic=topic, record=request, context=CONTEXT)


async def take(subscription: Subscription) -> Delivery:
    return await asyncio.wait_for(anext(aiter(subscription)), 30)


async def take_all(subscription: Subscription, number: int) -> list[str]:
    """The ids of the next messages, acknowledged."""
    taken = [await take(subscription) for _ in range(number)]
    for delivery in taken:
        await delivery.ack()
    return [delivery.message.record.id for delivery in taken]


async def take_until_drained(bus: Bus, subscription: Subscription) -> list[str]:
    """The ids of everything that still comes, acknowledged: a message may come again until its acknowledgement is
    durable, and one that was acknowledged out of order or late may come once more."""
    taken: list[str] = []

    async def work() -> None:
        async for delivery in subscription:
            taken.append(delivery.message.record.id)
            await delivery.ack()

    working = asyncio.create_task(work())
    await asyncio.wait_for(bus.drained(), 20)
    working.cancel()
    await asyncio.wait([working])
    return taken


async def stays_silent(subscription: Subscription) -> bool:
    waiting = asyncio.ensure_future(anext(aiter(subscription)))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    waiting.cancel()
    return not done


async def test_a_message_arrives_whole_and_as_a_copy(bus: Bus) -> None:
    subscription = bus.subscribe([topics.GENERATIONS], group="g")
    sent = message("a", text="words")
    await bus.publish([sent])
    arrived = (await take(subscription)).message
    assert arrived == sent
    assert arrived.record is not sent.record
    assert arrived.record.prompt.tags is not sent.record.prompt.tags


async def test_subscribing_takes_effect_when_called(bus: Bus) -> None:
    subscription = bus.subscribe([topics.GENERATIONS], group="g")
    await bus.publish([message("a"), message("b")])
    assert await take_all(subscription, 2) == ["a", "b"]


async def test_every_group_sees_every_message(bus: Bus) -> None:
    groups = [bus.subscribe([topics.GENERATIONS], group=name) for name in ("g", "h")]
    await bus.publish([message("a"), message("b")])
    assert [await take_all(group, 2) for group in groups] == [["a", "b"], ["a", "b"]]


async def test_members_of_a_group_share_its_messages(bus: Bus) -> None:
    members = [bus.subscribe([topics.GENERATIONS], group="g") for _ in range(3)]
    seen: list[str] = []

    async def work(member: Subscription) -> None:
        async for delivery in member:
            seen.append(delivery.message.record.id)
            await asyncio.sleep(0)
            await delivery.ack()

    workers = [asyncio.create_task(work(member)) for member in members]
    names = [f"m{i}" for i in range(50)]
    await bus.publish([message(name) for name in names])
    await asyncio.wait_for(bus.drained(), 10)
    assert sorted(seen) == sorted(names)
    for member in members:
        await member.aclose()
    await asyncio.wait_for(asyncio.gather(*workers), 10)


async def test_a_subscription_gets_its_own_topics_only(bus: Bus) -> None:
    generations = bus.subscribe([topics.GENERATIONS], group="g")
    continuations = bus.subscribe([topics.CONTINUATIONS], group="g")
    await bus.publish([message("a"), message("b", topic=topics.CONTINUATIONS)])
    assert await take_all(generations, 1) == ["a"]
    assert await take_all(continuations, 1) == ["b"]
    assert await stays_silent(generations)


async def test_the_first_topic_of_a_subscription_is_served_first(bus: Bus) -> None:
    subscription = bus.subscribe([topics.CONTINUATIONS, topics.GENERATIONS], group="g")
    await bus.publish([message("early"), message("early", topic=topics.CONTINUATIONS)])
    await take_all(subscription, 2)  # with a real broker, both topics are read from now on
    await bus.publish([message("fresh1"), message("fresh2"), message("fork", topic=topics.CONTINUATIONS)])
    await until_it_is_there(bus)
    assert await take_all(subscription, 3) == ["fork", "fresh1", "fresh2"]


async def test_a_message_that_is_put_back_comes_again_after_its_delay(bus: Bus) -> None:
    subscription = bus.subscribe([topics.GENERATIONS], group="g")
    await bus.publish([message("a")])
    started = asyncio.get_running_loop().time()
    await (await take(subscription)).nack(delay_s=0.1)
    again = await take(subscription)
    assert asyncio.get_running_loop().time() - started >= 0.09
    assert again.message == message("a")
    await again.ack()
    await asyncio.wait_for(bus.drained(), 10)


async def test_a_message_that_is_buried_comes_no_more(bus: Bus) -> None:
    subscription = bus.subscribe([topics.GENERATIONS], group="g")
    await bus.publish([message("a"), message("b")])
    await (await take(subscription)).bury(reason="hopeless")
    assert await take_all(subscription, 1) == ["b"]
    await asyncio.wait_for(bus.drained(), 10)


async def test_trace_context_travels_beside_the_record(bus: Bus) -> None:
    subscription = bus.subscribe([topics.GENERATIONS], group="g")
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b"}
    await bus.publish([replace(message("a"), trace=trace)])
    first = await take(subscription)
    assert first.message.trace == trace
    await first.nack(delay_s=0)
    assert (await take(subscription)).message.trace == trace


async def test_a_message_that_is_put_back_does_not_hold_up_others(bus: Bus) -> None:
    subscription = bus.subscribe([topics.GENERATIONS], group="g")
    await bus.publish([message("a"), message("b")])
    await (await take(subscription)).nack(delay_s=0.2)
    assert await take_all(subscription, 2) == ["b", "a"]


async def test_what_a_leaving_member_holds_goes_to_the_others(bus: Bus) -> None:
    leaving = bus.subscribe([topics.GENERATIONS], group="g")
    await bus.publish([message(name) for name in "abc"])
    held = [await take(leaving) for _ in range(3)]
    await held[1].ack()
    staying = bus.subscribe([topics.GENERATIONS], group="g")
    await leaving.aclose()
    given = await take_until_drained(bus, staying)
    assert [name for name in given if name != "b"] == ["a", "c"]


async def test_acknowledging_late_or_twice_is_harmless(bus: Bus) -> None:
    first = bus.subscribe([topics.GENERATIONS], group="g")
    await bus.publish([message("a")])
    delivery = await take(first)
    second = bus.subscribe([topics.GENERATIONS], group="g")
    await first.aclose()
    await delivery.ack()
    await delivery.ack()
    await delivery.nack(delay_s=0)
    assert await take_until_drained(bus, second) in ([], ["a"])


async def test_a_closed_subscription_ends_its_iteration(bus: Bus) -> None:
    subscription = bus.subscribe([topics.GENERATIONS], group="g")
    reading = asyncio.create_task(take_all_until_end(subscription))
    await asyncio.sleep(0)
    await subscription.aclose()
    await subscription.aclose()
    assert await asyncio.wait_for(reading, 10) == []


async def test_closing_the_bus_ends_every_iteration(bus: Bus) -> None:
    readings = [
        asyncio.create_task(take_all_until_end(bus.subscribe([topics.GENERATIONS], group=name))) for name in "gh"
    ]
    await asyncio.sleep(0)
    await bus.aclose()
    assert await asyncio.wait_for(asyncio.gather(*readings), 10) == [[], []]
    with pytest.raises(Retry):
        await bus.publish([message("a")])


async def take_all_until_end(subscription: Subscription) -> list[str]:
    return [delivery.message.record.id async for delivery in subscription]


async def test_drained_waits_for_queued_held_and_delayed_messages(bus: Bus) -> None:
    await asyncio.wait_for(bus.drained(), 10)
    subscription = bus.subscribe([topics.GENERATIONS], group="g")
    await bus.publish([message("a")])
    drained = asyncio.create_task(bus.drained())
    await asyncio.sleep(0.01)
    assert not drained.done()
    held = await take(subscription)
    await asyncio.sleep(0.01)
    assert not drained.done()
    await held.nack(delay_s=0.05)
    await asyncio.sleep(0.01)
    assert not drained.done()
    await (await take(subscription)).ack()
    await asyncio.wait_for(drained, 10)


async def test_drained_is_not_deceived_by_a_moment_between_two_messages(bus: Bus) -> None:
    subscription = bus.subscribe([topics.GENERATIONS], group="g")
    await bus.publish([message("a")])
    drained = asyncio.create_task(bus.drained())
    held = await take(subscription)
    await held.ack()
    await bus.publish([message("b")])
    await asyncio.sleep(0.01)
    assert not drained.done()
    await (await take(subscription)).ack()
    await asyncio.wait_for(drained, 10)


async def test_a_batch_with_a_message_that_cannot_travel_is_refused_as_a_whole(bus: Bus) -> None:
    subscription = bus.subscribe([topics.GENERATIONS], group="g")
    with pytest.raises(Reject):
        await bus.publish([message("a"), message("b", text="\ud800")])
    assert await stays_silent(subscription)


async def test_a_reader_that_gives_up_waiting_loses_no_message(bus: Bus) -> None:
    subscription = bus.subscribe([topics.GENERATIONS], group="g")
    for number in range(30):
        waiting = asyncio.ensure_future(anext(aiter(subscription)))
        await asyncio.sleep(0)
        await bus.publish([message(f"m{number}")])
        waiting.cancel()
        try:
            delivery = await waiting
        except asyncio.CancelledError:
            delivery = await take(subscription)
        assert delivery.message.record.id == f"m{number}"
        await delivery.ack()


async def test_records_of_every_kind_of_topic_travel(bus: Bus) -> None:
    subscription = bus.subscribe([topics.CHECKPOINTS], group="g")
    record = Checkpoint(
        id="c", arm="a", parent="m", model="n", path="x", dataset="d", step=1, final_loss=0.5, metrics={"loss": 0.5}
    )
    sent = Message(topic=topics.CHECKPOINTS, record=record, context=Context(run="r"))
    await bus.publish([sent])
    assert (await take(subscription)).message == sent
