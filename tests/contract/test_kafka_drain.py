"""A pump over Kafka that is told to drain: what it ended is committed, what it had only read goes to the next one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.contract.test_kafka_bus import committed
from tests.kafka_topics_for_tests import kafka_namespace
from tests.unit.kit.test_pump import Bench, Shout, message
from tests.unit.kit.test_pump_survival import Gated

from tracemend.adapters.kafka_bus import KafkaBus
from tracemend.kit.pump import Pump
from tracemend.topics import CONTINUATIONS, GENERATIONS, PROMPTS
from tracemend.wire import WireCodec


async def test_a_drained_pump_leaves_nothing_undone_and_repeats_nothing(tmp_path: Path) -> None:
    async with kafka_namespace(topics=(CONTINUATIONS, GENERATIONS, PROMPTS)) as settings:
        bench, bus, held = Bench(tmp_path), KafkaBus(settings, WireCodec()), Gated(4)
        await bench.ledger.open_run("r", plan="p")

        def pump(stage: Shout) -> Pump:
            return Pump(stage, bus=bus, results=bench.results, ledger=bench.ledger, worker="w", concurrency=4)

        first = pump(held)
        running = asyncio.create_task(first.run())
        await bus.publish([message(f"m{number}") for number in range(10)])
        await asyncio.wait_for(held.is_full.wait(), 60)
        held.gate.set()
        await first.drain(60)
        await running
        num_done = held.worked.total()
        assert (await committed(settings, "shout"))[GENERATIONS.name] == num_done
        rest = Shout()
        second = pump(rest)
        running = asyncio.create_task(second.run())
        await asyncio.wait_for(bus.drained(), 60)
        await second.drain(60)
        await running
        assert rest.worked.total() == 10 - num_done
        await bus.aclose()
        await bench.ledger.aclose()
