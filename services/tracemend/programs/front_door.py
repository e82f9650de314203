"""What the ingestion servicer asks of the rest: plans, redriving, stories and dead letters (`ingestion.needs`)."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tracemend.embedded import redriving, story
from tracemend.embedded.checking import check_corrections
from tracemend.embedded.guarding import check_guards
from tracemend.embedded.looking import OpenRun
from tracemend.embedded.models import identity_at
from tracemend.embedded.pipeline import run_id
from tracemend.embedded.plan import Plan, from_content
from tracemend.embedded.training import check_trainings
from tracemend.ingestion import needs
from tracemend.kit.bus_ports import DeadLetter, DeadLetters, TopicKeeper
from tracemend.kit.errors import SetupError
from tracemend.kit.run_states import RunState
from tracemend.programs.parts import Parts
from tracemend.programs.plans import served_name
from tracemend.programs.routing import topics_of
from tracemend.records import Trajectory
from tracemend.runtime.rpc.faults import precondition
from tracemend.topics import of_targets


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPlans:
    """`needs.Plans`: a plan is good when this release reads it, its parts fit, and its target has topics."""

    parts: Parts
    topics: TopicKeeper

    async def check(self, content: bytes) -> needs.CheckedPlan:
        plan = await asyncio.to_thread(_read, content)
        target = served_name(plan.run.target)
        await self.topics.check(topics_of(target))
        return needs.CheckedPlan(run=await self._run_id(plan), name=plan.run.name, target=target)

    async def _run_id(self, plan: Plan) -> str:
        target = await self.parts.build.target(plan)

        def identities() -> tuple[str, dict[str, str]]:
            models = plan.run.models.items()
            return target.identity, {name: identity_at(model, where=f"models.{name}") for name, model in models}

        of_target, of_models = await asyncio.to_thread(identities)
        return run_id(plan, target=of_target, helpers=of_models)


def _read(content: bytes) -> Plan:
    try:
        json.loads(content)
    except ValueError:
        raise SetupError("the plan is not JSON; `tracemend submit` sends resolved run files") from None
    plan = from_content(content)
    check_corrections(plan, models=plan.run.models)
    check_guards(plan)
    check_trainings(plan)
    return plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriver:
    """`needs.Redriving`: opens units, and sets a run running again that has ended. One that its owner has paused stays
    so, and takes the units up when it is resumed; one that was cancelled is given up for good."""

    parts: Parts

    async def redrive(self, run: str, *, arm: str, reason: str, dry_run: bool) -> needs.Redriven:
        record = await self.parts.tables.runs.get(run)
        assert record is not None, "the servicer asks about runs that exist"
        if record.state is RunState.CANCELLED:
            raise precondition(
                "ILLEGAL_STATE", "the run was cancelled: its units have ended for good", state=record.state
            )
        plan = await self.parts.plans.get(record.plan)
        step = redriving.find_units if dry_run else redriving.redrive
        found = await step(self.parts.workspace, run=run, plan=plan, arm=arm or None, reason=reason or None)
        if found.num_units and not dry_run and record.state in (RunState.DONE, RunState.FAILED):
            await self.parts.tables.runs.set_state(run, RunState.RUNNING)
        return needs.Redriven(num_units=found.num_units, prompts=found.prompts, reasons=found.reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldStories:
    """`needs.Stories` over the ledger and the store."""

    parts: Parts

    async def tell(self, run: str, wanted: str) -> needs.Story:
        return await story.tell(await self._open(run), wanted)

    async def trajectory(self, run: str, wanted: str) -> Trajectory | None:
        told = await story.tell(await self._open(run), wanted)
        verdicts = itertools.chain(told.samples, told.rewrites, told.forks)
        return next((v.trajectory for v in verdicts if v.trajectory.id == wanted), None)

    async def _open(self, run: str) -> OpenRun:
        folder = self.parts.workspace.folder / "jobs" / run
        workspace = dataclasses.replace(self.parts.workspace, folder=folder)
        return OpenRun(workspace=workspace, run=run, plan=await _plan_of(self.parts, run))


@dataclass(frozen=True, slots=True, kw_only=True)
class Buried:
    """`needs.DeadLetters` over the bus's own."""

    letters_of: DeadLetters
    parts: Parts

    async def letters(self, which: needs.LetterFilter, *, after: str) -> AsyncIterator[needs.DeadLetter]:
        async for letter in self._found(which):
            if letter.id > after:
                yield needs.DeadLetter(
                    id=letter.id,
                    topic=letter.topic,
                    stage=letter.group,
                    reason=letter.reason,
                    record=letter.record,
                    time_s=letter.buried_s,
                    num_bytes=letter.num_bytes,
                )

    async def redrive(
        self, which: needs.LetterFilter, *, max_messages: int, rate_per_s: float, dry_run: bool
    ) -> tuple[int, int]:
        found = [letter async for letter in self._found(which)]
        chosen = found[: max_messages or None]
        if dry_run:
            return len(found), 0
        redrive = f"{which.run}/{chosen[-1].id}" if chosen else ""
        return len(found), await self.letters_of.redrive(chosen, redrive=redrive, per_s=rate_per_s)

    async def _found(self, which: needs.LetterFilter) -> AsyncIterator[DeadLetter]:
        record = await self.parts.tables.runs.get(which.run)
        targets = [record.target] if record is not None and record.target else []
        topics = [t for t in of_targets(targets) if which.topic in ("", t.name)]
        async for letter in self.letters_of.letters(topics, run=which.run, reason=which.reason):
            if which.stage in ("", letter.group):
                yield letter


async def _plan_of(parts: Parts, run: str) -> Plan:
    digest = await parts.workspace.ledger.run_plan(run)
    assert digest is not None, "the servicer asks about runs that exist"
    return await parts.plans.get(digest)
