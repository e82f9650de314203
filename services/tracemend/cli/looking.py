"""`tracemend verify`, `tracemend failures` and `tracemend report`: what a run's folder says about itself."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from tracemend.cli.showing import checks, inert, print_json, table
from tracemend.embedded.laws import Finding, check_laws
from tracemend.embedded.looking import open_run
from tracemend.embedded.remedies import Failure, failures
from tracemend.embedded.reporting import rewrite_report
from tracemend.evaluator.service import ALL, HEADLINE

EXIT_BROKEN = 3


def verify(folder: Path, *, as_json: bool) -> None:
    """Print every conservation law; exit with 3 if one is broken."""

    async def body() -> list[Finding]:
        async with open_run(folder) as opened:
            return await check_laws(opened.workspace, run=opened.run, plan=opened.plan)

    findings = asyncio.run(body())
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        console = Console()
        checks(
            console, [(f.law, f.holds, f"{f.checked:,} checked{'; ' + f.detail if f.detail else ''}") for f in findings]
        )
    if not all(finding.holds for finding in findings):
        raise SystemExit(EXIT_BROKEN)


def report(folder: Path, *, as_json: bool) -> None:
    """Write the report again and print where it lies, with the headline figures of every arm."""

    async def body() -> Path:
        async with open_run(folder) as opened:
            return await rewrite_report(opened)

    path = asyncio.run(body())
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if as_json:
        arms = {arm: facts["metrics"] for arm, facts in content["arms"].items()}
        print_json({"report": str(path), "arms": arms})
        return
    console = Console(highlight=False)
    console.print(str(path), markup=False, soft_wrap=True)
    if content["synthetic"]:
        console.print("SYNTHETIC: figures of the proving ground say nothing about real models", style="yellow")
    shown = table("arm", *(name.replace("_", " ") for name in HEADLINE))
    for arm, facts in content["arms"].items():
        shown.add_row(arm, *(_estimate(facts["metrics"].get(name, {}).get(ALL)) for name in HEADLINE))
    console.print(shown)


def _estimate(figure: dict[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "–"
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def show_failures(folder: Path, *, as_json: bool) -> None:
    """Print what did not end well, with the remedy."""

    async def body() -> list[Failure]:
        async with open_run(folder) as opened:
            return await failures(opened)

    found = asyncio.run(body())
    if as_json:
        print(json.dumps([dataclasses.asdict(failure) for failure in found]))
        return
    console = Console()
    if not found:
        console.print("Everything ended in a training row.")
        return
    shown = table("where", "state", "reason", "number", "what to do", right=("number",))
    for failure in found:
        shown.add_row(failure.where, failure.state, failure.reason, f"{failure.number:,}", inert(failure.remedy))
    console.print(shown)
