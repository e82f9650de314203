"""`tracemend verify`, `tracemend failures` and `tracemend report`: what a run's folder says about itself."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.padding import Padding
from rich.text import Text as Styled

from tracemend.cli.showing import checks, inert, print_json, table, wide_console
from tracemend.embedded.laws import Finding, check_laws
from tracemend.embedded.looking import OpenRun, open_run
from tracemend.embedded.remedies import Failure, failures
from tracemend.embedded.reporting import rewrite_report
from tracemend.evaluator.service import ALL, HEADLINE

EXIT_BROKEN = 3
_NARROW = 100
"""Columns of a terminal, below which remedies are put under what they are for instead of beside it."""


def verify(folder: Path, *, as_json: bool) -> None:
    """Print every conservation law; exit with 3 if one is broken."""

    async def body() -> list[Finding]:
        async with open_run(folder) as opened:
            return await check_laws(opened.workspace, run=opened.run, plan=opened.plan)

    findings = asyncio.run(body())
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        console = wide_console()
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
    if as_json:
        content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        arms = {arm: facts["metrics"] for arm, facts in content["arms"].items()}
        print_json({"report": str(path), "arms": arms})
        return
    print(path)
    show_headline(path)


def show_headline(path: Path) -> None:
    """Print the headline figures of every arm of the report at `path`, over all splits."""
    content = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    console = wide_console()
    if content["synthetic"]:
        console.print("SYNTHETIC: figures of the proving ground say nothing about real models", style="yellow")
    shown = table("%, with interval", *(name.replace("_", " ") for name in HEADLINE))
    for arm, facts in content["arms"].items():
        shown.add_row(arm, *(_estimate(facts["metrics"].get(name, {}).get(ALL)) for name in HEADLINE))
    console.print(shown)


def _estimate(figure: dict[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "–"
    value, low, high = (_percent(figure[name]) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.1f}" if 0 < percent < 9.95 else f"{percent:.0f}"


def show_failures(folder: Path, *, as_json: bool) -> None:
    """Print what did not end well, with the remedy."""

    async def body() -> tuple[list[Failure], str]:
        async with open_run(folder) as opened:
            return await failures(opened), await _unfinished(opened)

    found, unfinished = asyncio.run(body())
    if as_json:
        print(json.dumps([dataclasses.asdict(failure) for failure in found]))
        return
    console = wide_console()
    if unfinished or not found:
        console.print(unfinished or "Every row was admitted, and every unit kept or corrected.")
    if not found:
        return
    if console.width < _NARROW:
        for failure in found:
            console.print(Styled(f"{failure.number:,} {failure.where}: {failure.state} ({failure.reason})"))
            console.print(Padding(Styled(inert(failure.remedy), style="dim"), (0, 0, 0, 2)))
        return
    shown = table("where", "state", "reason", "number", "what to do", right=("number",))
    for failure in found:
        shown.add_row(failure.where, failure.state, failure.reason, f"{failure.number:,}", inert(failure.remedy))
    console.print(shown)


async def _unfinished(opened: OpenRun) -> str:
    """What a run that is not done has still to tell; empty where all has ended."""
    ledger = opened.workspace.ledger
    if await ledger.intake(opened.run) is None:
        return "No prompts were admitted yet; the run's command goes on, or says what is in the way."
    num_open = len(await ledger.open_prompts(opened.run))
    return f"{num_open:,} prompts have units that have not ended; the run's command goes on." if num_open else ""
