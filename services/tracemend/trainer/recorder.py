"""The recorder: enters outcomes into the ledger, the first one of each unit, and tells who waits for them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from tracemend.kit.batching import LINGER_S, MAX_BATCH, next_batch
from tracemend.kit.ports import Bus, Delivery, Ledger, Message
from tracemend.kit.results import Results
from tracemend.records import Outcome
from tracemend.topics import OUTCOMES

Heard = Callable[[Sequence[Outcome]], Awaitable[None]]


class Recorder:
    """Consumes outcomes in batches: payloads into one pack, units into one transaction, then acknowledge."""

    def __init__(self, *, bus: Bus, results: Results, ledger: Ledger, heard: Heard) -> None:
        self._results = results
        self._ledger = ledger
        self._heard = heard
        self._subscription = bus.subscribe((OUTCOMES,), group="recorder")
        self._arrived: asyncio.Queue[Delivery] = asyncio.Queue(maxsize=4 * MAX_BATCH)

    async def run(self) -> None:
        """Record until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._record())
        finally:
            await self._subscription.aclose()

    async def _read(self) -> None:
        async for delivery in self._subscription:
            await self._arrived.put(delivery)

    async def _record(self) -> None:
        while True:
            batch = await next_batch(self._arrived, linger_s=LINGER_S)
            await self._conclude([delivery.message for delivery in batch])
            for delivery in batch:
                await delivery.ack()

    async def _conclude(self, messages: Sequence[Message]) -> None:
        addresses = await self._results.write({m.record.id: ((OUTCOMES, m.record),) for m in messages})
        by_run: dict[tuple[str, int], list[Outcome]] = defaultdict(list)
        for message in messages:
            by_run[message.context.run, message.context.epoch].append(message.record)
        for (run, epoch), outcomes in by_run.items():
            await self._ledger.conclude(run, [(o, addresses[o.id]) for o in outcomes], epoch=epoch)
        await self._heard([message.record for message in messages])
