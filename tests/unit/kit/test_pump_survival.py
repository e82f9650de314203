"""What a pump outlives: bugs in every corner of a stage, and being told to drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.unit.kit.test_pump import Bench, Shout, message, running

from tracemend.adapters.memory_bus import MemoryBus, MemoryDelivery, MemorySubscription
from tracemend.kit.ports import Bus, Delivery, Message
from tracemend.kit.pump import Pump
from tracemend.kit.stage import Produced
from tracemend.topics import GENERATIONS, Topic


class Grave:
    """A bus that remembers what was buried."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self.buried: list[tuple[str, str]] = []

    def subscribe(self, topics: Sequence[Topic], *, group: str) -> Digging:
        return Digging(self._bus.subscribe(topics, group=group), self)

    async def publish(self, messages: Sequence[Message]) -> None:
        await self._bus.publish(messages)

    async def drained(self) -> None:
        await self._bus.drained()

    async def aclose(self) -> None:
        await self._bus.aclose()


class Digging:
    def __init__(self, subscription: MemorySubscription, grave: Grave) -> None:
        self._subscription = subscription
        self._grave = grave

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        async for delivery in self._subscription:
            yield Recorded(delivery, self._grave)

    async def aclose(self) -> None:
        await self._subscription.aclose()


class Recorded:
    def __init__(self, delivery: MemoryDelivery, grave: Grave) -> None:
        self._delivery = delivery
        self._grave = grave
        self.message = delivery.message
        self.ack = delivery.ack
        self.nack = delivery.nack

    async def bury(self, *, reason: str) -> None:
        self._grave.buried.append((self.message.record.prompt.text.reveal(), reason))
        await self._delivery.bury(reason=reason)


def pump_over(bench: Bench, bus: Bus, stage: Shout) -> Pump:
    return Pump(stage, bus=bus, results=bench.results, ledger=bench.ledger, worker="w")


async def give_up(folder: Path, stage: Shout, names: Sequence[str]) -> tuple[Bench, Grave]:
    bench = Bench(folder)
    grave = Grave(bench.bus)
    async with running(bench, pump_over(bench, grave, stage)):
        await bench.ledger.open_run("r", plan="p")
        await bench.bus.publish([message(name) for name in names])
        async with asyncio.timeout(20):
            await bench.bus.drained()
    return bench, grave


async def test_what_cannot_be_ended_is_buried_unremembered_and_costs_nobody_else(tmp_path: Path) -> None:
    """Worked anew when it is redriven, once the stage is mended: a result in the ledger would forbid that."""

    class Clumsy(Shout):
        def dead(self, message: Message, reason: str) -> Sequence[Message]:
            raise KeyError(reason)

    def fail(text: str) -> str | None:
        if text == "bad":
            raise ZeroDivisionError
        return None

    bench, grave = await give_up(tmp_path, Clumsy(fail), ["a", "bad", "bad", "b"])
    assert sorted(bench.heard) == ["A", "B"]
    assert set(grave.buried) == {("bad", "bug_ZeroDivisionError")}
    mended, grave = await give_up(tmp_path, Shout(), ["bad"])
    assert (mended.heard, grave.buried) == (["BAD"], [])


async def test_a_message_whose_key_cannot_be_told_ends_alone(tmp_path: Path) -> None:
    class Nameless(Shout):
        def key(self, message: Message) -> str | None:
            if message.record.prompt.text.reveal() == "bad":
                raise AttributeError
            return super().key(message)

    bench, grave = await give_up(tmp_path, Nameless(), ["a", "bad", "b"])
    assert sorted(bench.heard) == ["A", "B", "dead:bug_AttributeError"]
    assert grave.buried == [("bad", "bug_AttributeError")]


class Gated(Shout):
    """Works until the gate opens; `is_full` when `num_held` are in work."""

    def __init__(self, num_held: int) -> None:
        super().__init__()
        self.num_held = num_held
        self.gate, self.is_full = asyncio.Event(), asyncio.Event()

    async def work(self, message: Message) -> Produced:
        produced = await super().work(message)
        if self.worked.total() >= self.num_held:
            self.is_full.set()
        await self.gate.wait()
        return produced


@asynccontextmanager
async def half_way(folder: Path, names: Sequence[str], concurrency: int) -> AsyncIterator[tuple[Bench, Gated, Pump]]:
    """A pump with as much in work as it takes, and more waiting."""
    bench, stage = Bench(folder), Gated(min(concurrency, len(names)))
    pump = bench.pump(stage, concurrency=concurrency)
    async with running(bench):
        await bench.ledger.open_run("r", plan="p")
        await bench.bus.publish([message(name) for name in names])
        pumping = asyncio.create_task(pump.run())
        async with asyncio.timeout(20):
            await stage.is_full.wait()
        yield bench, stage, pump
        pumping.cancel()
        await asyncio.wait([pumping])


async def test_a_drained_pump_ends_what_it_works_on_and_gives_back_the_rest(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(40)]
    async with half_way(tmp_path, names, concurrency=8) as (bench, stage, pump):
        draining = asyncio.create_task(pump.drain(20.0))
        await asyncio.sleep(0.05)
        assert not draining.done()
        stage.gate.set()
        await draining
        await bench.heard_enough(8)
        assert sorted(bench.heard) == sorted(text.upper() for text in stage.worked)
        assert stage.worked.total() == 8
        async with asyncio.timeout(20):
            rest = bench.pump(Shout())
            pumping = asyncio.create_task(rest.run())
            await bench.bus.drained()
            await rest.drain(5.0)  # an idle one ends at once
            await pumping
    assert sorted(bench.heard) == sorted(name.upper() for name in names)


async def test_a_drain_that_takes_too_long_says_so_and_what_it_held_is_no_crash(tmp_path: Path) -> None:
    async with half_way(tmp_path, ["slow"], concurrency=8) as (_, _, pump):
        with pytest.raises(TimeoutError):
            await pump.drain(0.1)
    again = Bench(tmp_path)
    _, crashed = await again.ledger.take_up(["work_request_slow"], worker="w")
    assert not any(crashed.values())
    await again.ledger.aclose()


async def test_what_is_put_in_while_a_pump_drains_is_left_alone(tmp_path: Path) -> None:
    async with half_way(tmp_path, ["a"], concurrency=8) as (bench, stage, pump):
        draining = asyncio.create_task(pump.drain(20.0))
        await asyncio.sleep(0)
        await bench.bus.publish([message("late")])
        stage.gate.set()
        await draining
        left = bench.bus.subscribe([GENERATIONS], group=stage.name)
        async with asyncio.timeout(10):
            delivery = await anext(left)
        assert delivery.message.record.id == "request_late"


async def test_an_error_beside_the_work_ends_the_pump(tmp_path: Path) -> None:
    """Rather than leave a message that nobody works and nobody acknowledges."""

    class Broken(Grave):
        """Takes nothing into its grave."""

        @property
        def buried(self) -> list[tuple[str, str]]:
            raise OSError

        @buried.setter
        def buried(self, value: object) -> None:
            return

    class Clumsy(Shout):
        def dead(self, message: Message, reason: str) -> Sequence[Message]:
            raise KeyError(reason)

    def fail(text: str) -> str:
        raise ZeroDivisionError

    bench = Bench(tmp_path)
    await bench.ledger.open_run("r", plan="p")
    pump = pump_over(bench, Broken(bench.bus), Clumsy(fail))
    await bench.bus.publish([message("a")])
    with pytest.RaisesGroup(OSError):
        async with asyncio.timeout(20):
            await pump.run()
    await bench.ledger.aclose()
