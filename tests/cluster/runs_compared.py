"""Run files that are small enough to be run twice, and what of two runs must be equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracemend.embedded.phases import results_of
from tracemend.embedded.pipeline import run_pipeline
from tracemend.embedded.progress import Silent
from tracemend.embedded.runfile import BASE, ArmSettings, RunFile, load_run_file
from tracemend.embedded.workspace import Workspace, open_workspace
from tracemend.records import Outcome, Verdict

ROOT = Path(__file__).parents[2]
NULL = ROOT / "examples" / "null-2000.yaml"


def null_run(*, limit: int, **target: Any) -> RunFile:
    """The run of scripted models, with the first `limit` rows of each of its sources."""
    settings = load_run_file(NULL)
    return settings.model_copy(update={"limit": limit, "target": settings.target.model_copy(update=target)})


def shrunk(example: Path, *, limit: int, **target: Any) -> RunFile:
    """An example without training, guards and measurements: what its base's arms make of a few prompts."""
    settings = load_run_file(example)
    arms = {name: arm.model_copy(update={"train": None}) for name, arm in _of_base(settings.arms).items()}
    assert arms, f"no arm of {example} is left"
    update = {"arms": arms, "evaluate": None, "limit": limit}
    return settings.model_copy(update={**update, "target": settings.target.model_copy(update=target)})


def _of_base(arms: Mapping[str, ArmSettings]) -> Mapping[str, ArmSettings]:
    """The arms that correct what the base has written, and need no others than such ones."""
    kept = {name: arm for name, arm in arms.items() if arm.correct is not None and arm.from_ == BASE}
    while lacking := [name for name, arm in kept.items() if not {*arm.assemble.others} <= kept.keys()]:
        kept = {name: arm for name, arm in kept.items() if name not in lacking}
    return kept


async def embedded(settings: RunFile, folder: Path, *, cache: Path) -> tuple[dict[Any, Any], dict[str, str]]:
    """Outcomes and dataset digests of the run in one process."""
    finished = await run_pipeline(settings, folder, cache=cache, observer=Silent())
    async with open_workspace(folder) as workspace:
        return await facts_of_run(workspace, finished.run)


async def facts_of_run(workspace: Workspace, run: str) -> tuple[dict[Any, Any], dict[str, str]]:
    """Unit to outcome, and arm to the digest of its dataset."""
    outcomes: dict[Any, Any] = {}
    async for concluded in workspace.ledger.outcomes(run):
        ((_, outcome),) = await workspace.results.read(concluded.address)
        assert concluded.unit not in outcomes, "a unit has one outcome"
        outcomes[concluded.unit] = timeless(outcome)
    results = await results_of(workspace, run)
    phases = {name: result for name, result in results.items() if name.startswith("assemble:")}
    return outcomes, {name.partition(":")[2]: manifest["digest"] for name, manifest in phases.items()}


def timeless(outcome: Outcome) -> Outcome:
    """The outcome without what it took."""
    return dataclasses.replace(outcome, final=_timeless(outcome.final), original=_timeless(outcome.original))


def _timeless(verdict: Verdict | None) -> Verdict | None:
    if verdict is None:
        return None
    trajectory = dataclasses.replace(verdict.trajectory, seconds=0.0, money=0.0, num_cached_tokens=0)
    return dataclasses.replace(verdict, trajectory=trajectory)
