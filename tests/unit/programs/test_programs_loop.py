"""Sealing, feeding, planned stages and recording together, over a memory bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from tests.unit.programs.one_process import SMALL, parts_in, small_run, submit

from tracemend.embedded.pipeline import run_pipeline
from tracemend.embedded.progress import Silent
from tracemend.embedded.workspace import Workspace, open_workspace
from tracemend.kit.errors import SetupError
from tracemend.kit.run_states import RunState
from tracemend.programs.feeding import Feeder
from tracemend.programs.parts import Parts
from tracemend.programs.planned import PlannedStage
from tracemend.programs.routing import topics_of
from tracemend.programs.sealing import Sealer
from tracemend.records import Outcome
from tracemend.topics import GROUPS, REWRITES, TRAJECTORIES, VERDICTS
from tracemend.trainer.recorder import Recorder


async def _nobody(outcomes: Sequence[Outcome]) -> None:
    return


@asynccontextmanager
async def services(parts: Parts) -> AsyncIterator[None]:
    """Generator, judge, corrector, teacher and recorder."""
    planned = partial(PlannedStage, plans=parts.plans, runs=parts.runs)
    stages = [
        planned("generator-null", topics_of("null"), build=parts.build.generator),
        planned("judge", (TRAJECTORIES,), build=parts.build.judge),
        planned("corrector", (VERDICTS, GROUPS), build=parts.build.corrector),
        planned("teacher", (REWRITES,), build=parts.build.teacher),
    ]
    its = parts.workspace
    recorder = Recorder(bus=parts.bus, results=its.results, ledger=its.ledger, heard=_nobody)
    tasks = [asyncio.create_task(parts.pump(stage).run()) for stage in stages]
    tasks.append(asyncio.create_task(recorder.run()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stage in stages:
            await stage.__aexit__()


async def outcomes_of(workspace: Workspace, run: str) -> set[tuple[str, str, int, str, str, str]]:
    found = workspace.ledger.outcomes(run)
    return {(o.unit.arm, o.unit.prompt, o.unit.sample, o.unit.variant, o.state, o.reason) async for o in found}


def test_a_run_is_sealed_fed_and_worked_as_the_embedded_pipeline_would(tmp_path: Path) -> None:
    async def check() -> None:
        settings = small_run()
        finished = await run_pipeline(settings, tmp_path / "embedded", cache=tmp_path, observer=Silent())
        async with open_workspace(tmp_path / "embedded") as workspace:
            expected = await outcomes_of(workspace, finished.run)
        async with parts_in(tmp_path / "cluster") as parts, asyncio.timeout(60):
            record = await submit(parts, settings)
            await Sealer(parts=parts).seal(record)
            running = await parts.tables.runs.get(record.run)
            assert running is not None
            assert running.state is RunState.RUNNING
            async with services(parts):
                await Feeder(parts=parts).feed(running)
            assert await outcomes_of(parts.workspace, record.run) == expected
            assert len(expected) == 16

    asyncio.run(check())


def test_messages_that_were_lost_are_asked_for_again(tmp_path: Path) -> None:
    """Nobody listens when the prompts are first fed."""

    async def check() -> None:
        async with parts_in(tmp_path) as parts, asyncio.timeout(60):
            record = await submit(parts, small_run())
            await Sealer(parts=parts).seal(record)
            feeding = asyncio.create_task(Feeder(parts=parts, repeat_after_s=1.0).feed(record))
            await asyncio.sleep(0.5)
            async with services(parts):
                await feeding
            assert not await parts.workspace.ledger.open_prompts(record.run)

    asyncio.run(check())


def test_a_run_without_a_fit_prompt_says_so(tmp_path: Path) -> None:
    async def check() -> None:
        async with parts_in(tmp_path) as parts:
            record = await submit(parts, small_run(SMALL.replace("ingestion: {", "ingestion: {max_chars: 1, ")))
            with pytest.raises(SetupError, match="none of the 16 prompts could be admitted"):
                await Sealer(parts=parts).seal(record)

    asyncio.run(check())


def test_what_a_plan_lacks_fails_its_run_and_no_other(tmp_path: Path) -> None:
    """The teacher's address is in a variable that is not set where the services run."""

    async def check() -> None:
        lacking = small_run(SMALL.replace("scripted:null_teacher", "openai:m@${TRACEMEND_TEST_UNSET_URL}"))
        async with parts_in(tmp_path) as parts, asyncio.timeout(60):
            bad = await submit(parts, lacking, run="bad")
            good = await submit(parts, small_run(), run="good")
            for record in (bad, good):
                await Sealer(parts=parts).seal(record)
            async with services(parts):
                feeding = asyncio.create_task(Feeder(parts=parts).feed(bad))
                await Feeder(parts=parts).feed(good)
                await parts.bus.drained()
                feeding.cancel()
            failed = await parts.tables.runs.get("bad")
            assert failed is not None
            assert failed.state is RunState.FAILED
            assert "TRACEMEND_TEST_UNSET_URL" in failed.reason
            assert not await parts.workspace.ledger.open_prompts("good")

    asyncio.run(check())


def test_records_of_a_paused_run_are_put_aside_and_its_work_is_dropped(tmp_path: Path) -> None:
    async def check() -> None:
        slow = SMALL.replace('"scripted:null_target"', '"scripted:null_target", engine_options: {delay_s: 30}')
        async with parts_in(tmp_path) as parts, asyncio.timeout(60):
            record = await submit(parts, small_run(slow))
            await Sealer(parts=parts).seal(record)
            async with services(parts):
                feeding = asyncio.create_task(Feeder(parts=parts).feed(record))
                await asyncio.sleep(1.0)
                await parts.tables.runs.set_state(record.run, RunState.PAUSED)
                await parts.bus.drained()  # at once, although every sample takes half a minute
                feeding.cancel()
            assert await parts.workspace.ledger.outcome_counts(record.run) == {}

    asyncio.run(check())
