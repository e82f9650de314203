"""`tracemend verify` and `tracemend failures`: what a run's folder says about itself."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tracemend.embedded.laws import Finding, check_laws
from tracemend.embedded.looking import open_run
from tracemend.embedded.remedies import Failure, failures

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
        for finding in findings:
            mark = "[green]✓[/]" if finding.holds else "[red]✗[/]"
            console.print(f"{mark} {finding.law} [dim]({finding.checked:,} checked)[/]", highlight=False)
            if finding.detail:
                console.print(f"  {finding.detail}", markup=False, highlight=False)
    if not all(finding.holds for finding in findings):
        raise SystemExit(EXIT_BROKEN)


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
    table = Table(box=None, pad_edge=False)
    for column in ("where", "state", "reason", "number", "what to do"):
        table.add_column(column, justify="right" if column == "number" else "left", overflow="fold")
    for failure in found:
        table.add_row(failure.where, failure.state, failure.reason, f"{failure.number:,}", failure.remedy)
    console.print(table)
