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

What a stage's own bugs keep from ending (its `work`, `key` or `dead` fails) goes to the dead letters as it came, and
nothing is remembered of it: redriven once the bug is mended, it is worked like new.

Told to `drain`, a pump takes in nothing more, and ends when what it has taken in is worked, durable, published and
acknowledged; what it had only read goes back to the bus.

What the user must change first (a refused API key, an unknown model) is no record's fault: a `SetupError` of the work
ends the pump, and the item is worked again once that is mended.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import structlog

from tracemend.kit import crash_points
from tracemend.kit.attempts import Attempts
from tracemend.kit.batching import LINGER_S, MAX_BATCH, next_batch, patience_for
from tracemend.kit.errors import PutAside, Reject, Retry, SetupError
from tracemend.kit.logs import Seldom, about
from tracemend.kit.ports import Bus, Delivery, Ledger, Message
from tracemend.kit.pump_items import Arrival, Item, PumpStats
from tracemend.kit.results import Results
from tracemend.kit.stage import Produced, Stage
from tracemend.kit.telemetry import IN_FLIGHT, MONEY, NO_TELEMETRY, NO_TRACE, Telemetry

_ALONE_AFTER = 4
"""Unfinished attempts after which an item is worked alone: 256 / 4⁴ = 1."""
_MAX_ALONE = 3
_MAX_LINKS = 100
"""Of a span; tracing backends drop more than 128."""

__all__ = ["Pump", "PumpStats"]

log = structlog.get_logger(__name__)


class Pump:
    """Runs one stage until cancelled or drained. `worker` names this process in attempts."""

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
        self._attempts = Attempts(ledger, results, worker=worker)
        self._retries_told = Seldom()
        self._concurrency = concurrency
        self._telemetry = telemetry
        self._slots = asyncio.Semaphore(concurrency)
        self._subscription = bus.subscribe(stage.inputs, group=stage.name)
        self._arrived: asyncio.PriorityQueue[Arrival] = asyncio.PriorityQueue(maxsize=concurrency)
        self._finished: asyncio.Queue[Item] = asyncio.Queue()
        self._obstacles: asyncio.Queue[BaseException] = asyncio.Queue()
        self._is_draining = False
        self._has_ended = asyncio.Event()
        self._working: dict[asyncio.Task[None], Item] = {}
        self._joined: dict[str, list[Item]] = {}
        """Work keys under way, with the later deliveries of the same work that wait for its result."""

    async def run(self) -> None:
        """Pump until drained, cancelled, or until the work meets a `SetupError`, which comes out in a group; on the way
        out, attempts in flight are closed: a graceful stop is not a crash."""
        try:
            async with asyncio.TaskGroup() as tasks:
                sides = [tasks.create_task(side) for side in (self._read(), self._complete(), self._heed())]
                await self._take_in()
                await self._idle()
                await self._finished.join()
                for side in sides:
                    side.cancel()
        finally:
            try:
                await self._stop_working()
                await self._subscription.aclose()
            finally:
                self._has_ended.set()

    async def stop_intake(self, _left_s: float = 0.0) -> None:
        """Take in nothing more; what was read and not taken in goes back to the bus when `run` returns."""
        self._is_draining = True
        if not self._arrived.full():
            self._arrived.put_nowait(Arrival(-1, -1, None))  # wakes an intake that waits for work

    async def drain(self, within_s: float) -> None:
        """Take in nothing more and return when what is under way has been acknowledged and `run` returns.

        `TimeoutError` after `within_s` seconds: whoever then cancels `run` gives back what has not ended.
        """
        await self.stop_intake()
        async with asyncio.timeout(within_s):
            await self._has_ended.wait()

    # ---------------------------------------------------------------------------------------- intake

    async def _read(self) -> None:
        urgency = {topic.name: place for place, topic in enumerate(self.stage.inputs)}
        numbers = itertools.count()
        async for delivery in self._subscription:
            await self._arrived.put(Arrival(urgency[delivery.message.topic.name], next(numbers), delivery))

    async def _take_in(self) -> None:
        while not self._is_draining:
            async with self._slots:  # what is taken in while nothing is free goes before what comes and is more urgent
                pass
            batch = await next_batch(self._arrived, most=min(MAX_BATCH, self._concurrency - len(self._working)))
            if self._is_draining:
                return
            deliveries = [arrival.delivery for arrival in batch if arrival.delivery is not None]
            if crash_points.is_missing(crash_points.WORK_BEFORE_COMMIT):
                for delivery in deliveries:
                    await delivery.ack()
            await self.stage.prepare([delivery.message for delivery in deliveries])
            items = [item for delivery in deliveries if (item := await self._keyed(delivery))]
            await self._start([item for item in items if not self._joins(item)])

    async def _keyed(self, delivery: Delivery) -> Item | None:
        """The delivery as an item; None where its stage cannot tell its key, which gives it up."""
        item = Item(delivery=delivery, key=None)
        try:
            item.key = self.stage.key(delivery.message)
        except Exception as bug:  # like a bug of the work, it must cost its own message alone
            with self._about(item):
                log.exception("stage failed to name its work", error=type(bug).__name__)
            await self._give_up(item, f"bug_{type(bug).__name__}")
            return None
        return item

    def _joins(self, item: Item) -> bool:
        """Whether the same work is under way already, so that `item` only waits for its result."""
        if item.key is None:
            return False
        if item.key in self._joined:
            self._joined[item.key].append(item)
            return True
        self._joined[item.key] = []
        return False

    async def _start(self, items: list[Item]) -> None:
        known, crashed = await self._attempts.take_up(_keys(items))
        fresh: list[Item] = []
        for item in items:
            if item.key is not None and item.key in known:
                item.produced, item.is_known = item.in_context(known[item.key]), True
                self._finished.put_nowait(item)
            else:
                fresh.append(item)
        suspects = [(crashed[i.key], i) for i in fresh if i.key is not None and crashed.get(i.key)]
        await self._attempts.withdraw(
            _keys([item for _, item in suspects])
        )  # theirs count from when each is really worked
        marked = {id(item) for _, item in suspects}
        for item in fresh:
            if id(item) not in marked:
                await self._launch(item)
        if suspects:
            await self._work_suspects(suspects)

    async def _work_suspects(self, suspects: list[tuple[int, Item]]) -> None:
        """Work items that may crash the process: the most suspect first, in company as small as their history asks."""
        suspects.sort(key=lambda pair: pair[0], reverse=True)
        while suspects and not self._is_draining:
            await self._idle()
            attempts = suspects[0][0]
            if attempts >= _ALONE_AFTER + _MAX_ALONE:
                await self._give_up(suspects.pop(0)[1], "crashed_repeatedly")
                continue
            company = max(1, MAX_BATCH // 4**attempts)
            chunk = [pair for pair in suspects if pair[0] == attempts][:company]
            suspects = [pair for pair in suspects if pair not in chunk]
            await self._attempts.begin(_keys([item for _, item in chunk]))
            for _, item in chunk:
                await self._launch(item)
        await self._idle()

    async def _idle(self) -> None:
        while self._working:
            await asyncio.wait(list(self._working))

    async def _launch(self, item: Item) -> None:
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
        if (
            not task.cancelled() and (error := task.exception()) is not None
        ):  # of the ledger or the bus, not of the work
            self._obstacles.put_nowait(error)

    # ------------------------------------------------------------------------------------------ work

    async def _work(self, item: Item) -> None:
        try:
            self._land(item, await self._traced(item))
        except Retry as busy:
            await self._put_back(item, busy)
        except Reject as hopeless:
            await self._give_up(item, hopeless.reason)
        except PutAside:
            await self._put_aside(item)
        except SetupError as obstacle:
            self._obstacles.put_nowait(obstacle)
        except Exception as bug:  # the one place in the flow that must survive any bug of a stage
            with self._about(item):
                log.exception("stage failed", error=type(bug).__name__)
            await self._give_up(item, f"bug_{type(bug).__name__}")

    def _about(self, item: Item) -> AbstractContextManager[None]:
        """Has log lines name what they belong to."""
        return about(stage=self.stage.name, **item.codes)

    async def _traced(self, item: Item) -> Produced:
        started_s = time.monotonic()
        with self._telemetry.span(f"process {self.stage.name}", trace=item.message.trace) as trace:
            item.trace = trace
            produced = await self.stage.work(item.message)
        item.seconds = time.monotonic() - started_s
        return produced

    async def _heed(self) -> None:
        raise await self._obstacles.get()

    def _land(self, item: Item, produced: Produced) -> None:
        if item.key is not None:
            item.frame = self._results.frame([(message.topic, message.record) for message in produced.messages])
        trace = item.trace or item.message.trace
        item.produced = tuple(m if m.trace or not trace else replace(m, trace=trace) for m in produced.messages)
        item.cost = produced.cost
        self._finished.put_nowait(item)

    async def _give_up(self, item: Item, reason: str) -> None:
        item.given_up = reason
        self.stats.add_dead(reason)
        try:
            self._land(item, Produced(messages=tuple(self.stage.dead(item.message, reason))))
        except Exception as bug:  # a unit that cannot even be ended: its messages wait until somebody mends the stage
            with self._about(item):
                log.exception("stage failed to end what was given up", reason=reason, error=type(bug).__name__)
            await self._bury(item)

    async def _bury(self, item: Item) -> None:
        """To the dead letters, with all who waited for it, and no result remembered."""
        await self._attempts.withdraw(_keys([item]))
        for one in [item, *self._joined.pop(item.key or "", ())]:
            await one.delivery.bury(reason=item.given_up)
        self._count(item)

    async def _put_back(self, item: Item, busy: Retry) -> None:
        self.stats.num_retried += 1
        self._telemetry.item(self.stage.name, "retried", busy.reason)
        if num_times := self._retries_told.due(busy.reason):
            with self._about(item):
                log.warning("will retry", reason=busy.reason, after_s=busy.after_s, num_times=num_times)
        await self._attempts.withdraw(_keys([item]))
        for one in [item, *self._joined.pop(item.key or "", ())]:
            await one.delivery.nack(delay_s=busy.after_s)

    async def _put_aside(self, item: Item) -> None:
        """Acknowledge it unworked; of those that waited for its result, some may belong to runs that are worked on."""
        await self._attempts.withdraw(_keys([item]))
        for waiting in self._joined.pop(item.key or "", ()):
            await waiting.delivery.nack(delay_s=0.0)
        await item.delivery.ack()

    # ------------------------------------------------------------------------------------ completion

    async def _complete(self) -> None:
        while True:
            batch = await next_batch(
                self._finished,
                linger_s=LINGER_S,
                more_is_under_way=lambda: bool(self._working),
                patience_s=lambda item: patience_for(item.seconds),
            )
            await self._settle(batch)
            for _ in batch:
                self._finished.task_done()

    async def _settle(self, batch: Sequence[Item]) -> None:
        """Make a batch durable, then visible, then acknowledged: the order is the guarantee."""
        crash_points.reached(crash_points.BEFORE_PACK)
        fresh = [item for item in batch if item.key is not None and not item.is_known]
        for run in dict.fromkeys(item.message.context.run for item in fresh):  # each pays for its own
            await self._save([item for item in fresh if item.message.context.run == run])
        batch = [one for item in batch for one in (item, *self._answered_by(item))]
        messages = [message for item in batch for message in item.produced]
        messages += await self._followed(batch)
        crash_points.reached(crash_points.BEFORE_PUBLISH)
        if messages:
            await self._publish(messages)
        crash_points.reached(crash_points.BEFORE_ACKNOWLEDGE)
        for item in batch:
            if item.given_up:
                await item.delivery.bury(reason=item.given_up)
            else:
                await item.delivery.ack()
            self._count(item)
        crash_points.reached(crash_points.AFTER_ACKNOWLEDGE)

    async def _followed(self, batch: Sequence[Item]) -> list[Message]:
        """What follows from the whole batch, traced as an effect of all that is in it."""
        traces = {str(trace): trace for item in batch if (trace := item.trace or item.message.trace)}
        first, *others = traces.values() or [NO_TRACE]
        with self._telemetry.span(f"follow {self.stage.name}", trace=first, links=others[:_MAX_LINKS]) as trace:
            made = await self.stage.follow([item.message for item in batch])
        return [message if message.trace else replace(message, trace=trace) for message in made]

    def _answered_by(self, item: Item) -> list[Item]:
        """The deliveries that waited for what is durable of `item` now."""
        waiting = self._joined.pop(item.key or "", [])
        for other in waiting:
            other.produced, other.is_known = other.in_context([(m.topic, m.record) for m in item.produced]), True
        return waiting

    async def _save(self, items: Sequence[Item]) -> None:
        by_key = {item.key: item for item in items if item.key is not None}
        if not by_key:
            return
        lost = await self._results.save(
            {key: item.frame for key, item in by_key.items()},
            run=items[0].message.context.run,
            costs={key: item.cost for key, item in by_key.items() if item.cost is not None},
            subjects={key: item.message.topic.subject(item.message.record) for key, item in by_key.items()},
        )
        self._attempts.finish(by_key)
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

    def _count(self, item: Item) -> None:
        if item.is_known:
            self.stats.num_replayed += 1
            self._telemetry.item(self.stage.name, "replayed")
            return
        outcome = "dead" if item.given_up else "done"
        self._telemetry.item(self.stage.name, outcome, item.given_up, item.seconds)
        self.stats.add_done(item.cost)
        if item.cost is not None and item.cost.money:
            self._telemetry.count(MONEY, item.cost.money, stage=self.stage.name)

    # -------------------------------------------------------------------------------------- stopping

    async def _stop_working(self) -> None:
        for task in list(self._working):
            task.cancel()
        if self._working:
            await asyncio.gather(*self._working, return_exceptions=True)
        await self._attempts.close()


def _keys(items: Sequence[Item]) -> list[str]:
    return [item.key for item in items if item.key is not None]
