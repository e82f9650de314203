"""One correcting flow over a folder, without the command around it: what the loop's benchmarks and its memory test run.

The parts are those of a run in one process (sealed prompts, stages, memory bus, SQLite, folder store); only the engine
is handed in, already open, so that opening it is not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tracemend.corrector.stage import CorrectorStage, TeacherStage
from tracemend.embedded.ancestors import Ancestors
from tracemend.embedded.flows import Flow, Sampler, correct
from tracemend.embedded.intake import prompts_of, seal
from tracemend.embedded.models import open_helpers
from tracemend.embedded.pipeline import run_id
from tracemend.embedded.plan import Plan, resolve
from tracemend.embedded.progress import Observer, Silent
from tracemend.embedded.runfile import BASE, RunFile
from tracemend.embedded.workspace import Workspace, open_workspace
from tracemend.generator.service import Generator
from tracemend.generator.stage import GeneratorStage
from tracemend.judge.service import JudgeService
from tracemend.judge.stage import JudgeStage
from tracemend.kit.ports import TextModel
from tracemend.kit.pump import PumpStats
from tracemend.kit.results import Results
from tracemend.runtime.models import open_model
from tracemend.topics import ALL
from tracemend.traces.formats import get_format
from tracemend.wire import WireCodec

_JUDGES = {axis: {"name": "last_word"} for axis in ("harm", "refusal", "correctness")}
_ARMS = {
    "filter": {"correct": {"strategy": "filter"}},
    "rewrite": {"correct": {"strategy": "rewrite", "teacher": "teacher"}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flown:
    """What a flow has done."""

    num_trajectories: int
    """Sampled from the target."""
    num_new_tokens: int
    num_by_stage: Mapping[str, int]


def run_file(
    num_prompts: int, *, samples: int, target: Mapping[str, Any], arms: Sequence[str] = tuple(_ARMS)
) -> RunFile:
    """Numbered prompts for a judge that costs nothing and a teacher that answers at once."""
    return RunFile.model_validate(
        {
            "name": "benchmark",
            "models": {"teacher": {"engine": "scripted:null_teacher"}},
            "prompts": [{"source": "numbered", "count": num_prompts}],
            # The prompts differ in a number alone: to the default filters they are near duplicates.
            "ingestion": {"filters": {"near_duplicates": False}},
            "target": {**target, "samples": samples},
            "judge": _JUDGES,
            "arms": {arm: _ARMS[arm] for arm in arms},
        }
    )


def null_run_file(num_prompts: int, *, samples: int = 3, arms: Sequence[str] = tuple(_ARMS)) -> RunFile:
    """`run_file` over the scripted target, which writes as fast as Python can."""
    target = {"model": "null", "engine": "scripted:null_target"}
    return run_file(num_prompts, samples=samples, target=target, arms=arms)


def null_generator() -> Generator:
    """The scripted target as a generator."""
    return Generator(open_model("scripted:null_target"), template=None, reasoning_format=get_format("think"))


async def sealed(folder: Path, settings: RunFile) -> tuple[str, Plan]:
    """Admit the prompts of `settings` in `folder`; the run and its plan."""
    plan = resolve(settings)
    run = run_id(plan, target=plan.run.target.engine)
    async with open_workspace(folder) as workspace:
        await workspace.ledger.open_run(run, plan=plan.digest)
        await seal(workspace, run=run, plan=plan, benchmarks=[], observer=Silent())
    return run, plan


async def fly(
    folder: Path,
    run: str,
    plan: Plan,
    generator: Generator,
    *,
    observer: Observer | None = None,
    cache_bytes: int | None = None,
) -> Flown:
    """Sample, judge and correct what is unfinished of a sealed run. `cache_bytes` bounds the results kept in memory."""
    settings = plan.run
    async with AsyncExitStack() as stack:
        workspace = await stack.enter_async_context(open_workspace(folder))
        if cache_bytes is not None:
            workspace = _with_cache(workspace, cache_bytes)
        helpers = await stack.enter_async_context(open_helpers(settings.models))
        flow = Flow.of_plan(plan, workspace=workspace, run=run, observer=observer or Silent(), check=_unlimited)
        arms = plan.owned_by(BASE)
        unfinished = await workspace.ledger.open_prompts(run, arms=arms)
        await correct(
            flow,
            prompts=prompts_of(workspace, run, among=unfinished),
            sampler=Sampler(
                model=generator.identity,
                sampling=settings.target.sampling.record(),
                num_samples=settings.target.samples,
            ),
            stages=_stages(workspace, plan, generator, helpers),
            arms=arms,
        )
        return _flown([pump.stats for pump in flow.pumps])


def _with_cache(workspace: Workspace, cache_bytes: int) -> Workspace:
    results = Results(
        store=workspace.store, ledger=workspace.ledger, codec=WireCodec(), topics=ALL, cache_bytes=cache_bytes
    )
    return replace(workspace, results=results)


def _stages(
    workspace: Workspace, plan: Plan, generator: Generator, helpers: Mapping[str, TextModel]
) -> tuple[GeneratorStage, JudgeStage, CorrectorStage, TeacherStage]:
    judge = JudgeService.build(plan.run.judge, helpers)
    corrections = plan.corrections(BASE)
    return (
        GeneratorStage(generator),
        JudgeStage(judge, workspace.results),
        CorrectorStage(
            corrections,
            ancestry=Ancestors(judge, workspace.results),
            identities={name: model.identity for name, model in helpers.items()},
            sampling=plan.run.target.sampling.record(),
        ),
        TeacherStage(corrections, helpers),
    )


def _flown(stats: Sequence[PumpStats]) -> Flown:
    by_stage = {pump.stage: pump for pump in stats}
    return Flown(
        num_trajectories=by_stage["generator"].num_done,
        num_new_tokens=by_stage["generator"].num_new_tokens,
        num_by_stage={name: pump.num_done for name, pump in by_stage.items()},
    )


async def _unlimited() -> None:
    """No budget."""
