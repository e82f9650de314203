"""A stage that works every message as the plan of its run says.

The pump drives it like any stage. For each plan that comes by, the real stage is built once, from the section of the
plan that it reads. Records of runs that are not worked on are put aside; what a run's owner must change first fails
that run and no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Self

import structlog

from tracemend.embedded.plan import Plan
from tracemend.kit.errors import PutAside, Retry, SetupError
from tracemend.kit.ids import make_id
from tracemend.kit.ports import Message
from tracemend.kit.stage import Produced, Stage
from tracemend.programs.by_plan import ByPlan
from tracemend.programs.plans import Plans
from tracemend.programs.watching import RunWatch
from tracemend.topics import Topic

Build = Callable[[Plan], AbstractAsyncContextManager[Stage]]
"""Makes the real stage of a plan; leaving the context closes what it opened."""

log = structlog.get_logger(__name__)


class PlannedStage:
    """`kit.stage.Stage` over the stages of many plans. Enter it before its pump runs; leaving it closes them."""

    def __init__(self, name: str, inputs: tuple[Topic, ...], *, plans: Plans, runs: RunWatch, build: Build) -> None:
        self._name = name
        self._inputs = inputs
        self._runs = runs
        self._stages = ByPlan(plans, build)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stages.__aexit__()

    @property
    def name(self) -> str:
        return self._name

    @property
    def inputs(self) -> tuple[Topic, ...]:
        return self._inputs

    async def prepare(self, messages: Sequence[Message]) -> None:
        while True:
            try:
                await self._prepare(messages)
                return
            except Retry as busy:
                log.warning("preparing waits", stage=self.name, reason=busy.reason, after_s=busy.after_s)
                await asyncio.sleep(busy.after_s)

    def key(self, message: Message) -> str | None:
        stage = self._stages.find(message.context.plan)
        if stage is None:  # it will be put aside: a key of its own, which nobody else asks for
            return make_id("unplanned", message.context.run, message.topic.name, message.record.id)
        return stage.key(message)

    async def work(self, message: Message) -> Produced:
        run, stage = message.context.run, self._stages.find(message.context.plan)
        if stage is None or not self._runs.is_worked_on(run):
            raise PutAside(f"run {run} is not worked on")
        try:
            return await self._runs.while_worked_on(run, stage.work(message))
        except SetupError as obstacle:
            await self._runs.fail(run, str(obstacle))
            raise PutAside(f"run {run} has failed") from obstacle

    async def follow(self, messages: Sequence[Message]) -> Sequence[Message]:
        by_plan: dict[str, list[Message]] = {}
        for message in messages:
            by_plan.setdefault(message.context.plan, []).append(message)
        found: list[Message] = []
        for digest, its in by_plan.items():
            stage = self._stages.find(digest)
            found += await stage.follow(its) if stage is not None else ()
        return found

    def dead(self, message: Message, reason: str) -> Sequence[Message]:
        stage = self._stages.find(message.context.plan)
        return stage.dead(message, reason) if stage is not None else ()

    async def _prepare(self, messages: Sequence[Message]) -> None:
        await self._runs.look({message.context.run for message in messages})
        for run, digest in dict.fromkeys((m.context.run, m.context.plan) for m in messages):
            if not self._runs.is_worked_on(run):
                continue
            try:
                await self._stages.of(digest)
            except SetupError as obstacle:
                await self._runs.fail(run, str(obstacle))
