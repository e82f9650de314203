"""Feeding: a run's unfinished prompts into the loop, at most W at once.

One process per run does it (`tending`). What is finished is what the ledger says, so a feeder that starts anew, after
a kill or when a run is resumed, goes on with exactly what is open; finished work answers from the ledger. Where no
prompt ends for long, those in the loop are asked for again, ever more rarely: repeats are harmless and cost a look-up.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import structlog

from tracemend.embedded.flows import Sampler
from tracemend.embedded.intake import prompts_of
from tracemend.embedded.models import sampler_of
from tracemend.embedded.plan import Plan
from tracemend.embedded.redriving import epochs_of, forget_dead
from tracemend.embedded.runfile import BASE
from tracemend.embedded.workspace import Workspace
from tracemend.kit import crash_points
from tracemend.kit.errors import Retry
from tracemend.kit.ports import AdmittedPrompt, Message
from tracemend.kit.server_ports import RunRecord
from tracemend.programs.parts import Parts
from tracemend.records import Prompt

_BATCH = 64
"""Prompts whose requests are published together."""
_POLL_S = (0.1, 0.5)
"""Between looks at the ledger: while prompts end, and while none does."""
_LONGEST_S = 900.0
"""Between two repeats, at most."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeder:
    """Feeds runs of one cluster. `feed` is a `tending.Work`."""

    parts: Parts
    repeat_after_s: float = 60.0
    """How long no prompt may end before those in the loop are asked for again."""
    clock: Callable[[], float] = time.monotonic

    async def feed(self, record: RunRecord) -> None:
        """Keep the loop full until every unit of the arms that start from the base has ended."""
        workspace, run = self.parts.workspace, record.run
        plan = await self.parts.plans.get(record.plan)
        arms = plan.owned_by(BASE)
        unfinished = await workspace.ledger.open_prompts(run, arms=arms) if arms else set()
        if not unfinished:
            return
        sampler = await self._sampler(run, plan, arms)
        log.info("feeding", run=run, num_prompts=len(unfinished))
        prompts = _Unfinished(workspace, run, unfinished)
        loop = _Loop(record=record, arms=arms, sampler=sampler, parts=self.parts)
        await self._fill(loop, prompts, size=plan.run.limits.unfinished_prompts)
        log.info("fed", run=run)

    async def _fill(self, loop: _Loop, prompts: _Unfinished, *, size: int) -> None:
        more = True
        pause_s, repeat_s, moved_s = _POLL_S[0], self.repeat_after_s, self.clock()
        while more or loop.inside:
            while more and len(loop.inside) < size:
                batch = await prompts.take(min(_BATCH, size - len(loop.inside)))
                more = bool(batch)
                await loop.ask(batch)
            if await loop.drop_finished():
                pause_s, repeat_s, moved_s = _POLL_S[0], self.repeat_after_s, self.clock()
            elif self.clock() - moved_s >= repeat_s and not crash_points.is_missing(crash_points.ASKING_AGAIN):
                log.warning("no prompt has ended", run=loop.run, for_s=round(repeat_s), num_prompts=len(loop.inside))
                await loop.ask(dict(loop.inside))
                repeat_s, moved_s = min(2 * repeat_s, _LONGEST_S), self.clock()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_S[1])

    async def _sampler(self, run: str, plan: Plan, arms: tuple[str, ...]) -> Sampler:
        """Who samples; what died of prompts that were redriven is forgotten, or it would only be found again."""
        workspace, target = self.parts.workspace, plan.run.target
        model = await asyncio.to_thread(sampler_of, await self.parts.build.target(plan))
        epochs = await epochs_of(workspace, run=run, arms=arms)
        sampler = Sampler(model=model, sampling=target.sampling.record(), num_samples=target.samples, epochs=epochs)
        if epochs:
            async with self.parts.build.models(plan, plan.run.judge.named_models) as models:
                judge = await self.parts.build.judges(plan, models)
                await forget_dead(
                    workspace, prompts_of(workspace, run, among=set(epochs)), sampler=sampler, judge=judge
                )
        return sampler


class _Loop:
    """The prompts of one run that are in the loop."""

    def __init__(self, *, record: RunRecord, arms: tuple[str, ...], sampler: Sampler, parts: Parts) -> None:
        self.run = record.run
        self._plan = record.plan
        self.inside: dict[str, Prompt] = {}
        self._arms = arms
        self._sampler = sampler
        self._parts = parts

    async def ask(self, prompts: Mapping[str, Prompt]) -> None:
        """Publish the requests of `prompts`, which are in the loop from now on."""
        self.inside |= prompts
        messages = [message for prompt in prompts.values() for message in self._requests(prompt)]
        while messages:
            try:
                await self._parts.bus.publish(messages)
                return
            except Retry as busy:
                log.warning("feeding waits", run=self.run, reason=busy.reason, after_s=busy.after_s)
                await asyncio.sleep(busy.after_s)

    def _requests(self, prompt: Prompt) -> list[Message]:
        """What is published for one prompt: here its trace begins, which goes on through every hop."""
        with self._parts.telemetry.span("feed") as trace:
            messages = self._sampler.messages(prompt, run=self.run, plan=self._plan, joins=True)
            return [dataclasses.replace(message, trace=trace) for message in messages]

    async def drop_finished(self) -> int:
        """Take those out whose units have ended; their number."""
        if not self.inside:
            return 0
        ledger = self._parts.workspace.ledger
        still_open = await ledger.open_prompts(self.run, arms=self._arms, among=list(self.inside))
        finished = self.inside.keys() - still_open
        for prompt in finished:
            del self.inside[prompt]
        return len(finished)


class _Unfinished:
    """The prompts of a run that are still to be fed, in row order; several are read at once, since each lies in the
    store for itself."""

    def __init__(self, workspace: Workspace, run: str, wanted: Collection[str]) -> None:
        self._results = workspace.results
        self._wanted = wanted
        self._rows = workspace.ledger.admitted(run)

    async def take(self, number: int) -> dict[str, Prompt]:
        """The next ones, at most `number`; empty at the end."""
        rows: list[AdmittedPrompt] = []
        while len(rows) < number and (row := await anext(self._rows, None)) is not None:
            if row.prompt in self._wanted:
                rows.append(row)
        found = await asyncio.gather(*(self._results.read(row.address) for row in rows))
        return {row.prompt: prompt for row, ((_, prompt),) in zip(rows, found, strict=True)}
