"""The small parts of programs: names of targets, routed topics, the ends of jobs, plans that are missing."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tests.unit.programs.one_process import parts_in, small_run, submit

from tracemend.api.generator.v1 import generator_service_pb2 as generator_pb
from tracemend.generator.servicer import GeneratorServicer
from tracemend.generator.settings import TargetSettings
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Context, Message
from tracemend.kit.run_states import RunState
from tracemend.programs.by_plan import ByPlan
from tracemend.programs.front_door import Redriver
from tracemend.programs.job_hosts import read_end
from tracemend.programs.plans import UnknownPlan, served_name
from tracemend.programs.routing import topics_of
from tracemend.programs.sealing import Sealer
from tracemend.records import Category, GenerationRequest, Outcome, OutcomeState, Prompt, Sampling
from tracemend.redaction import Text
from tracemend.runtime.rpc.faults import Code, Fault
from tracemend.topics import GENERATIONS, OUTCOMES

PROMPT = Prompt(id="prompt-1", text=Text("what is 2 + 2 ?"), category=Category.BENIGN)
REQUEST = GenerationRequest(id="request-1", prompt=PROMPT, model="model", sampling=Sampling(), sample=0, seed=1)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (TargetSettings(model="/models/DeepSeek-R1-Distill-Qwen-1.5B"), "deepseek-r1-distill-qwen-1-5b"),
        (TargetSettings(model="proving:base"), "proving-base"),
        (TargetSettings(model="/models/x", served_as="mine"), "mine"),
        (TargetSettings(model="..."), "target"),
    ],
)
def test_a_target_is_served_under_a_name_that_topics_take(settings: TargetSettings, name: str) -> None:
    assert served_name(settings) == name


def test_requests_go_to_the_topics_of_the_target_that_their_plan_names(tmp_path: Path) -> None:
    async def check() -> None:
        async with parts_in(tmp_path) as parts, asyncio.timeout(10):
            record = await submit(parts, small_run())
            mine = parts.bus.subscribe(topics_of("null"), group="mine")
            other = parts.bus.subscribe((*topics_of("other"), GENERATIONS), group="other")
            context = Context(run=record.run, plan=record.plan)
            await parts.bus.publish([Message(topic=GENERATIONS, record=REQUEST, context=context)])
            delivery = await anext(aiter(mine))
            assert delivery.message.record == REQUEST
            assert delivery.message.topic.name == "tracemend.generations.null.v1"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await anext(aiter(other))

    asyncio.run(check())


@pytest.mark.parametrize(
    ("said", "code", "end"),
    [
        (b'noise\n{"ended": "done", "reason": ""}\n', 0, ("done", "")),
        (b'{"ended": "SetupError", "reason": "set X"}', 2, ("SetupError", "set X")),
        (b"", -9, ("crash", "the job's process ended by SIGKILL")),
        (b'{"half": ', 1, ("crash", "the job's process ended by exit code 1")),
        (b"[1]\n", None, ("crash", "the job's process ended by exit code None")),
    ],
)
def test_a_job_says_how_it_ended_or_has_crashed(said: bytes, code: int | None, end: tuple[str, str]) -> None:
    assert read_end(said, code) == end


def test_a_plan_that_is_not_in_the_store_is_told_apart(tmp_path: Path) -> None:
    async def check() -> None:
        async with parts_in(tmp_path) as parts:
            async with ByPlan(parts.plans, parts.build.judge) as stages:
                with pytest.raises(UnknownPlan, match="not in the store"):
                    await stages.of("0" * 64)
            strange = await parts.workspace.store.put(b'{"from": "the future"}')
            with pytest.raises(SetupError, match="another release"):
                await parts.plans.get(strange)

    asyncio.run(check())


def test_a_dry_run_of_a_redrive_tells_what_it_would_open_and_opens_nothing(tmp_path: Path) -> None:
    async def check() -> None:
        async with parts_in(tmp_path) as parts:
            record = await submit(parts, small_run())
            await Sealer(parts=parts).seal(record)
            redriver = Redriver(parts=parts)
            told = await redriver.redrive(record.run, arm="", reason="", dry_run=True)
            assert dataclasses.astuple(told) == (0, {}, {})
            with pytest.raises(SetupError, match="no arm 'rewrit'"):
                await redriver.redrive(record.run, arm="rewrit", reason="", dry_run=False)

    asyncio.run(check())


def test_a_redrive_of_a_cancelled_run_is_refused_even_as_a_dry_run(tmp_path: Path) -> None:
    async def check() -> None:
        async with parts_in(tmp_path) as parts:
            record = await submit(parts, small_run())
            await Sealer(parts=parts).seal(record)
            await parts.tables.runs.set_state(record.run, RunState.CANCELLED)
            for dry_run in (True, False):
                with pytest.raises(Fault, match="cancelled") as refused:
                    await Redriver(parts=parts).redrive(record.run, arm="", reason="", dry_run=dry_run)
                assert refused.value.code is Code.FAILED_PRECONDITION

    asyncio.run(check())


@pytest.mark.parametrize(("before", "after"), [(RunState.PAUSED, RunState.PAUSED), (RunState.FAILED, RunState.RUNNING)])
def test_a_redrive_takes_a_run_up_again_that_has_ended_and_none_that_is_paused(
    before: RunState, after: RunState, tmp_path: Path
) -> None:
    async def check() -> None:
        async with parts_in(tmp_path) as parts:
            record = await submit(parts, small_run())
            await Sealer(parts=parts).seal(record)
            ledger = parts.workspace.ledger
            ((unit, epoch),) = await ledger.open_units(record.run, limit=1)
            state = OutcomeState.DEAD
            dead = Outcome(id="outcome-1", unit=unit, state=state, reason="lost")
            addresses = await parts.workspace.results.write({dead.id: ((OUTCOMES, dead),)})
            await ledger.conclude(record.run, [(dead, addresses[dead.id])], epoch=epoch)
            await parts.tables.runs.set_state(record.run, before)
            opened = await Redriver(parts=parts).redrive(record.run, arm="", reason="", dry_run=False)
            assert opened.num_units
            found = await parts.tables.runs.get(record.run)
            assert found is not None
            assert found.state is after

    asyncio.run(check())


def test_a_generator_without_a_model_says_that_it_has_none_yet() -> None:
    async def check() -> None:
        caller: Any = None
        with pytest.raises(Fault, match="no model is served here yet") as refused:
            await GeneratorServicer().DescribeModel(generator_pb.DescribeModelRequest(), caller)
        assert refused.value.code is Code.UNAVAILABLE

    asyncio.run(check())
