"""The two flows that run stages over a memory bus: correcting a run's prompts, and sampling a benchmark.

Every stage subscribes before anything is published. At most W unfinished prompts are in the loop at once; inside,
queues are unbounded, so the cycle judge → corrector → teacher → judge cannot deadlock. A flow that stands still
(nothing in flight, prompts unfinished) republishes them: finished work answers from the ledger.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from tracemend.embedded.plan import Plan
from tracemend.embedded.progress import Observer
from tracemend.embedded.workspace import Workspace
from tracemend.generator.service import plan_samples
from tracemend.kit.errors import TracemendError
from tracemend.kit.ports import Bus, Context, Message
from tracemend.kit.pump import Pump
from tracemend.kit.stage import Stage
from tracemend.records import Outcome, Prompt, Sampling, Unit, Verdict
from tracemend.topics import GENERATIONS, VERDICTS
from tracemend.trainer.recorder import Recorder

_WATCH_S = 0.5
_STALL_S = 5.0
_MAX_STALLS = 3

Check = Callable[[], Coroutine[Any, Any, None]]
"""Asked about once a second; raises to stop the flow (a budget that is spent)."""


class FlowStalled(TracemendError):
    """Prompts stay unfinished although nothing is in flight: a bug in a stage, told instead of hanging."""


class Item(Protocol):
    """What goes through a flow: a prompt, or a place of a trace that is continued."""

    @property
    def id(self) -> str: ...


class Source(Protocol):
    """What asks for the samples of a flow's items."""

    def messages(self, item: Any, /, *, run: str, plan: str, joins: bool) -> list[Message]:
        """The generation requests of one item, the same ones whenever it is asked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """Who writes the samples of a flow, and how many of each prompt."""

    model: str
    """Identity of the generator."""
    sampling: Sampling
    num_samples: int
    epochs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Redriven prompts: the arms that decide on them, each with its epoch. All other prompts are in their first, where
    one group serves every arm."""

    def messages(self, prompt: Prompt, *, run: str, plan: str, joins: bool) -> list[Message]:
        """The generation requests of one prompt; `joins` asks the judge to make a group of their verdicts."""
        requests = plan_samples(prompt, model=self.model, sampling=self.sampling, num_samples=self.num_samples)
        contexts = [Context(run=run, plan=plan)]
        if joins:
            contexts = self._joining(prompt, Context(run=run, plan=plan, siblings=tuple(r.id for r in requests)))
        return [Message(topic=GENERATIONS, record=r, context=context) for context in contexts for r in requests]

    def _joining(self, prompt: Prompt, context: Context) -> list[Context]:
        """One context for all arms, or one per arm: arms of a redriven prompt may be in different epochs."""
        if prompt.id not in self.epochs:
            return [context]
        return [
            replace(context, epoch=epoch, unit=Unit(arm=arm, prompt=prompt.id))
            for arm, epoch in self.epochs[prompt.id].items()
        ]


class Window:
    """The prompts in the loop, or other items: at most `size`, entered in order, left as they finish."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._open: dict[str, Item] = {}
        self._changed = asyncio.Event()
        self.num_left = 0

    async def enter(self, item: Item) -> None:
        while len(self._open) >= self._size:
            self._changed.clear()
            await self._changed.wait()
        self._open[item.id] = item

    def leave(self, item_id: str) -> None:
        if self._open.pop(item_id, None) is not None:
            self.num_left += 1
            self._changed.set()

    async def empty(self) -> None:
        while self._open:
            self._changed.clear()
            await self._changed.wait()

    def items(self) -> list[Item]:
        return list(self._open.values())


@dataclass(slots=True)
class Flow:
    """What the flows share: a bus, pumps over it, a window, and a watch over the whole."""

    workspace: Workspace
    run: str
    plan: str
    observer: Observer
    check: Check
    concurrency: int
    window: Window
    bus: Bus = field(init=False)
    pumps: list[Pump] = field(init=False, default_factory=list)
    states: Counter[str] = field(init=False, default_factory=Counter)
    """Units by state, as the ledger has them."""

    def __post_init__(self) -> None:
        self.bus = self.workspace.new_bus()

    @classmethod
    def of_plan(cls, plan: Plan, *, workspace: Workspace, run: str, observer: Observer, check: Check) -> Flow:
        """A flow as `plan` allows it: so many prompts in the loop, so many requests in flight."""
        return cls(
            workspace=workspace,
            run=run,
            plan=plan.blob,
            observer=observer,
            check=check,
            concurrency=plan.run.resources.concurrency,
            window=Window(plan.run.limits.unfinished_prompts),
        )

    def add(self, stage: Stage) -> None:
        """Subscribe a stage; its pump starts with the flow."""
        parts = self.workspace
        self.pumps.append(
            Pump(
                stage,
                bus=self.bus,
                results=parts.results,
                ledger=parts.ledger,
                worker=parts.worker,
                concurrency=self.concurrency,
            )
        )

    async def drive(
        self,
        items: AsyncIterator[Item],
        source: Source,
        *,
        joins: bool,
        others: Sequence[Coroutine[Any, Any, None]],
    ) -> None:
        """Feed `items` through the pumps until the window is empty again."""
        async with _together(*(pump.run() for pump in self.pumps), *others, self._watch(source, joins=joins)):
            async for item in items:
                await self.window.enter(item)
                await self.bus.publish(source.messages(item, run=self.run, plan=self.plan, joins=joins))
            await self.window.empty()
            if joins:
                await self._count()
            self._show()
        await self.bus.aclose()

    async def _watch(self, source: Source, *, joins: bool) -> None:
        stalls, seen, quiet_s = 0, -1, 0.0
        while True:
            await asyncio.sleep(_WATCH_S)
            if joins:  # samples that join nothing belong to no unit
                await self._count()
            self._show()
            await self.check()
            quiet_s = 0.0 if self.window.num_left != seen or not await self._is_idle() else quiet_s + _WATCH_S
            seen = self.window.num_left
            if quiet_s >= _STALL_S and self.window.items():
                stalls, quiet_s = stalls + 1, 0.0
                if stalls > _MAX_STALLS:
                    raise FlowStalled(f"{len(self.window.items())} prompts stay unfinished; see `tracemend failures`")
                for item in self.window.items():
                    await self.bus.publish(source.messages(item, run=self.run, plan=self.plan, joins=joins))

    async def _is_idle(self) -> bool:
        try:
            async with asyncio.timeout(0.05):
                await self.bus.drained()
        except TimeoutError:
            return False
        return True

    async def _count(self) -> None:
        counts: Counter[str] = Counter()
        for (_, state, _), number in (await self.workspace.ledger.outcome_counts(self.run)).items():
            counts[state] += number
        self.states = counts

    def _show(self) -> None:
        self.observer.advance(self.window.num_left, pumps=[pump.stats for pump in self.pumps], states=self.states)


async def correct(
    flow: Flow,
    *,
    prompts: AsyncIterator[Prompt],
    sampler: Sampler,
    stages: Sequence[Stage],
    arms: Sequence[str],
) -> None:
    """Sample, judge and correct `prompts` until every unit of `arms` on them has its outcome."""
    ledger = flow.workspace.ledger

    async def heard(outcomes: Sequence[Outcome]) -> None:
        concerned = sorted({outcome.unit.prompt for outcome in outcomes})
        still_open = await ledger.open_prompts(flow.run, arms=arms, among=concerned)
        for prompt_id in concerned:
            if prompt_id not in still_open:
                flow.window.leave(prompt_id)

    for stage in stages:
        flow.add(stage)
    recorder = Recorder(bus=flow.bus, results=flow.workspace.results, ledger=ledger, heard=heard)
    await flow.drive(prompts, sampler, joins=True, others=[recorder.run()])


async def sample(
    flow: Flow, *, prompts: AsyncIterator[Prompt], sampler: Sampler, stages: Sequence[Stage]
) -> list[Verdict]:
    """Sample and judge `prompts`; their verdicts by prompt and sample."""
    verdicts: dict[str, dict[int, Verdict]] = {}
    subscription = flow.bus.subscribe((VERDICTS,), group="collector")

    async def collect() -> None:
        async for delivery in subscription:
            verdict: Verdict = delivery.message.record
            of_prompt = verdicts.setdefault(verdict.trajectory.prompt.id, {})
            of_prompt[verdict.trajectory.sample] = verdict
            await delivery.ack()
            if len(of_prompt) == sampler.num_samples:
                flow.window.leave(verdict.trajectory.prompt.id)

    for stage in stages:
        flow.add(stage)
    await flow.drive(prompts, sampler, joins=False, others=[collect()])
    return [verdicts[prompt][index] for prompt in sorted(verdicts) for index in sorted(verdicts[prompt])]


@asynccontextmanager
async def _together(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run endless `work` beside the body; the first error of either ends both, the end of the body ends the work. What
    was raised for the user comes out as it is; of a bug, everything that went wrong."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(item) for item in work]
            yield
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as errors:
        told: BaseException | None = errors.subgroup(TracemendError)
        while isinstance(told, BaseExceptionGroup):
            told = told.exceptions[0]
        if told is None:
            raise
        raise told from None
