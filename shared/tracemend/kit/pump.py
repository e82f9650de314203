"""The pump: drives one stage between the bus, the store and the ledger, and loses nothing.

Intake and completion are batched apart, so that one long trace stalls nothing:

    subscription ─► intake (≤ 256) ─► known keys ──────────────────────────────────────────┐
                       │ new: attempts committed first                                     ▼
                       └────────► work, up to `concurrency` at once ─► completion (≤ 256 or 250 ms):
                                                                       pack → ledger → follow → publish → acknowledge

A crash between any two of these repeats work or messages and never loses one: the attempt is counted before the work,
the result is durable before anything is published, everything is published before the input is acknowledged.

Poison without innocents: an item whose earlier attempts ended in a crash is worked in ever smaller company (256, 64,
16, 4, 1), so that one killer soon is alone; only attempts made alone count towards giving it up. The most suspect go
first: what a kill from outside happened to hit clears itself at once, and is not hit again by chance much later.

Equal work that is asked for while it is under way (two arms that want the same fork) is done once: later deliveries of
its key wait for the result of the first, and go back to the bus with it if it must be tried again.

What the user must change first (a refused API key, an unknown model) is no record's fault: a `SetupError` of the work
ends the pump, and the item is worked again once that is mended.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import structlog

from tracemend.kit.batching import LINGER_S, MAX_BATCH, next_batch
from tracemend.kit.errors import PutAside, Reject, Retry, SetupError
from tracemend.kit.ports import Bus, Cost, Delivery, Ledger, Message
from tracemend.kit.results import Product, Results
from tracemend.kit.stage import Produced, Stage
from tracemend.kit.telemetry import IN_FLIGHT, MONEY, NO_TELEMETRY, Telemetry

_ALONE_AFTER = 4
"""Unfinished attempts after which an item is worked alone: 256 / 4⁴ = 1."""
_MAX_ALONE = 3

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class PumpStats:
    """What a pump has done so far; read by the progress display and by metrics."""

    stage: str
    num_done: int = 0
    num_replayed: int = 0
    """Finished before: answered from the ledger."""
    num_retried: int = 0
    num_dead: int = 0
    num_in_flight: int = 0
    num_prompt_tokens: int = 0
    num_new_tokens: int = 0
    money: float = 0.0
    dead_reasons: dict[str, int] = field(default_factory=dict)


class _Arrival(NamedTuple):
    """A delivery that waits for intake; those of more urgent topics go first, however late they came."""

    urgency: int
    number: int
    delivery: Delivery


@dataclass(slots=True)
class _Item:
    """One delivery on its way through: what it produced, once it has."""

    delivery: Delivery
    key: str | None
    produced: tuple[Message, ...] = ()
    frame: bytes = b""
    """`produced` as it will be stored; made beside the work, so that what cannot be written ends its item alone."""
    cost: Cost | None = None
    is_known: bool = False
    """Its result was durable before this delivery."""
    given_up: str = ""
    """Why it goes to the dead letters; empty for all that ends well."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """Trace context for its outputs."""
    seconds: float = 0.0

    @property
    def message(self) -> Message:
        return self.delivery.message

    def in_context(self, products: Sequence[Product]) -> tuple[Message, ...]:
        trace = self.trace or self.message.trace
        return tuple(Message(topic=t, record=r, context=self.message.context, trace=trace) for t, r in products)


class Pump:
    """Runs one stage until cancelled. `worker` names this process in attempts."""

    def __init__(
        self,
        stage: Stage,
        *,
        bus: Bus,
        results: Results,
        ledger: Ledger,
        worker: str,
        concurrency: int = 256,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self.stage = stage
        self.stats = PumpStats(stage=stage.name)
        self._bus = bus
        self._results = results
        self._ledger = ledger
        self._worker = worker
        self._concurrency = concurrency
        self._telemetry = telemetry
        self._slots = asyncio.Semaphore(concurrency)
        self._subscription = bus.subscribe(stage.inputs, group=stage.name)
        self._arrived: asyncio.PriorityQueue[_Arrival] = asyncio.PriorityQueue(maxsize=concurrency)
        self._finished: asyncio.Queue[_Item] = asyncio.Queue()
        self._obstacles: asyncio.Queue[SetupError] = asyncio.Queue()
        self._working: dict[asyncio.Task[None], _Item] = {}
        self._joined: dict[str, list[_Item]] = {}
        """Work keys under way, with the later deliveries of the same work that wait for its result."""
        self._begun: set[str] = set()
        """Work keys with an attempt of ours that is counted and not yet closed."""

    async def run(self) -> None:
        """Pump until cancelled, or until the work meets a `SetupError`, which comes out in a group; on the way out,
        attempts in flight are closed: a graceful stop is not a crash."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._take_in())
                tasks.create_task(self._complete())
                tasks.create_task(self._heed())
        finally:
            await self._stop_working()
            await self._subscription.aclose()

    # ---------------------------------------------------------------------------------------- intake

    async def _read(self) -> None:
        urgency = {topic.name: place for place, topic in enumerate(self.stage.inputs)}
        numbers = itertools.count()
        async for delivery in self._subscription:
            await self._arrived.put(_Arrival(urgency[delivery.message.topic.name], next(numbers), delivery))

    async def _take_in(self) -> None:
        while True:
            async with self._slots:  # what is taken in while nothing is free goes before what comes and is more urgent
                pass
            batch = await next_batch(self._arrived, most=min(MAX_BATCH, self._concurrency - len(self._working)))
            await self.stage.prepare([a.delivery.message for a in batch])
            items = [_Item(delivery=a.delivery, key=self.stage.key(a.delivery.message)) for a in batch]
            await self._start([item for item in items if not self._joins(item)])

    def _joins(self, item: _Item) -> bool:
        """Whether the same work is under way already, so that `item` only waits for its result."""
        if item.key is None:
            return False
        if item.key in self._joined:
            self._joined[item.key].append(item)
            return True
        self._joined[item.key] = []
        return False

    async def _start(self, items: list[_Item]) -> None:
        known, crashed = await self._take_up(items)
        fresh: list[_Item] = []
        for item in items:
            if item.key is not None and item.key in known:
                item.produced, item.is_known = item.in_context(known[item.key]), True
                self._finished.put_nowait(item)
            else:
                fresh.append(item)
        suspects = [(crashed[i.key], i) for i in fresh if i.key is not None and crashed.get(i.key)]
        await self._withdraw([item for _, item in suspects])  # theirs count from when each is really worked
        marked = {id(item) for _, item in suspects}
        for item in fresh:
            if id(item) not in marked:
                await self._launch(item)
        if suspects:
            await self._work_suspects(suspects)

    async def _take_up(self, items: Sequence[_Item]) -> tuple[dict[str, tuple[Product, ...]], dict[str, int]]:
        """What is known of the items, by work key; for the others an attempt is counted, and how many earlier ones
        ended in a crash is the second."""
        keys = [item.key for item in items if item.key is not None]
        if not keys:
            return {}, {}
        self._begun.update(keys)  # first: a stop while the ledger counts must close what it may have counted
        done, crashed = await self._ledger.take_up(keys, worker=self._worker)
        self._begun.difference_update(done)
        return await self._results.read_all(done), crashed

    async def _work_suspects(self, suspects: list[tuple[int, _Item]]) -> None:
        """Work items that may crash the process: the most suspect first, in company as small as their history asks."""
        suspects.sort(key=lambda pair: pair[0], reverse=True)
        while suspects:
            await self._idle()
            attempts = suspects[0][0]
            if attempts >= _ALONE_AFTER + _MAX_ALONE:
                self._give_up(suspects.pop(0)[1], "crashed_repeatedly")
                continue
            company = max(1, MAX_BATCH // 4**attempts)
            chunk = [pair for pair in suspects if pair[0] == attempts][:company]
            suspects = [pair for pair in suspects if pair not in chunk]
            await self._begin([item for _, item in chunk])
            for _, item in chunk:
                await self._launch(item)
        await self._idle()

    async def _begin(self, items: Sequence[_Item]) -> dict[str, int]:
        """Count an attempt on each item; work key to the number of earlier ones that ended in a crash."""
        keys = [item.key for item in items if item.key is not None]
        self._begun.update(keys)
        return await self._ledger.begin(keys, worker=self._worker) if keys else {}

    async def _withdraw(self, items: Sequence[_Item]) -> None:
        """Uncount the attempts on items that will not be worked now."""
        keys = [item.key for item in items if item.key is not None]
        if keys:
            await self._ledger.close_attempts(keys)
            self._begun.difference_update(keys)

    async def _idle(self) -> None:
        while self._working:
            await asyncio.wait(list(self._working))

    async def _launch(self, item: _Item) -> None:
        await self._slots.acquire()
        task = asyncio.create_task(self._work(item))
        self._working[task] = item
        self.stats.num_in_flight += 1
        self._telemetry.gauge(IN_FLIGHT, self.stats.num_in_flight, stage=self.stage.name)
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._working[task]
        self.stats.num_in_flight -= 1
        self._telemetry.gauge(IN_FLIGHT, self.stats.num_in_flight, stage=self.stage.name)
        self._slots.release()

    # ------------------------------------------------------------------------------------------ work

    async def _work(self, item: _Item) -> None:
        try:
            self._land(item, await self._traced(item))
        except Retry as busy:
            await self._put_back(item, busy)
        except Reject as hopeless:
            self._give_up(item, hopeless.reason)
        except PutAside:
            await self._put_aside(item)
        except SetupError as obstacle:
            self._obstacles.put_nowait(obstacle)
        except Exception as bug:  # the one place in the flow that must survive any bug of a stage
            log.exception("stage failed", stage=self.stage.name, key=item.key, error=type(bug).__name__)
            self._give_up(item, f"bug_{type(bug).__name__}")

    async def _traced(self, item: _Item) -> Produced:
        started_s = time.monotonic()
        with self._telemetry.span(f"process {self.stage.name}", trace=item.message.trace) as trace:
            item.trace = trace
            produced = await self.stage.work(item.message)
        item.seconds = time.monotonic() - started_s
        return produced

    async def _heed(self) -> None:
        raise await self._obstacles.get()

    def _land(self, item: _Item, produced: Produced) -> None:
        if item.key is not None:
            item.frame = self._results.frame([(message.topic, message.record) for message in produced.messages])
        trace = item.trace or item.message.trace
        item.produced = tuple(m if m.trace else replace(m, trace=trace) for m in produced.messages)
        item.cost = produced.cost
        self._finished.put_nowait(item)

    def _give_up(self, item: _Item, reason: str) -> None:
        item.given_up = reason
        self.stats.num_dead += 1
        self.stats.dead_reasons[reason] = self.stats.dead_reasons.get(reason, 0) + 1
        self._land(item, Produced(messages=tuple(self.stage.dead(item.message, reason))))

    async def _put_back(self, item: _Item, busy: Retry) -> None:
        self.stats.num_retried += 1
        self._telemetry.item(self.stage.name, "retried", busy.reason)
        log.warning("will retry", stage=self.stage.name, reason=busy.reason, after_s=busy.after_s)
        await self._withdraw([item])
        for one in [item, *self._joined.pop(item.key or "", ())]:
            await one.delivery.nack(delay_s=busy.after_s)

    async def _put_aside(self, item: _Item) -> None:
        """Acknowledge it unworked; of those that waited for its result, some may belong to runs that are worked on."""
        await self._withdraw([item])
        for waiting in self._joined.pop(item.key or "", ()):
            await waiting.delivery.nack(delay_s=0.0)
        await item.delivery.ack()

    # ------------------------------------------------------------------------------------ completion

    async def _complete(self) -> None:
        while True:
            await self._settle(
                await next_batch(self._finished, linger_s=LINGER_S, more_is_under_way=lambda: bool(self._working))
            )

    async def _settle(self, batch: Sequence[_Item]) -> None:
        """Make a batch durable, then visible, then acknowledged: the order is the guarantee."""
        fresh = [item for item in batch if item.key is not None and not item.is_known]
        for run in dict.fromkeys(item.message.context.run for item in fresh):  # each pays for its own
            await self._save([item for item in fresh if item.message.context.run == run])
        batch = [one for item in batch for one in (item, *self._answered_by(item))]
        messages = [message for item in batch for message in item.produced]
        messages += await self.stage.follow([item.message for item in batch])
        if messages:
            await self._publish(messages)
        for item in batch:
            if item.given_up:
                await item.delivery.bury(reason=item.given_up)
            else:
                await item.delivery.ack()
            self._count(item)

    def _answered_by(self, item: _Item) -> list[_Item]:
        """The deliveries that waited for what is durable of `item` now."""
        waiting = self._joined.pop(item.key or "", [])
        for other in waiting:
            other.produced, other.is_known = other.in_context([(m.topic, m.record) for m in item.produced]), True
        return waiting

    async def _save(self, items: Sequence[_Item]) -> None:
        by_key = {item.key: item for item in items if item.key is not None}
        if not by_key:
            return
        lost = await self._results.save(
            {key: item.frame for key, item in by_key.items()},
            run=items[0].message.context.run,
            costs={key: item.cost for key, item in by_key.items() if item.cost is not None},
            subjects={key: item.message.topic.subject(item.message.record) for key, item in by_key.items()},
        )
        self._begun.difference_update(by_key)
        for item in items:
            if item.key in lost:
                item.produced, item.given_up = item.in_context(lost[item.key]), ""

    async def _publish(self, messages: Sequence[Message]) -> None:
        while True:
            try:
                await self._bus.publish(messages)
                return
            except Retry as busy:
                log.warning("publishing waits", stage=self.stage.name, reason=busy.reason, after_s=busy.after_s)
                await asyncio.sleep(busy.after_s)

    def _count(self, item: _Item) -> None:
        if item.is_known:
            self.stats.num_replayed += 1
            self._telemetry.item(self.stage.name, "replayed")
            return
        outcome = "dead" if item.given_up else "done"
        self._telemetry.item(self.stage.name, outcome, item.given_up, item.seconds)
        self.stats.num_done += 1
        if item.cost is not None:
            self.stats.num_prompt_tokens += item.cost.num_prompt_tokens
            self.stats.num_new_tokens += item.cost.num_new_tokens
            self.stats.money += item.cost.money
            if item.cost.money:
                self._telemetry.count(MONEY, item.cost.money, stage=self.stage.name)

    # -------------------------------------------------------------------------------------- stopping

    async def _stop_working(self) -> None:
        for task in list(self._working):
            task.cancel()
        if self._working:
            await asyncio.gather(*self._working, return_exceptions=True)
        if self._begun:
            await self._ledger.close_attempts(sorted(self._begun))
