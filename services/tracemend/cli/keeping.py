"""`tracemend gc`, `purge` and `redrive`: a run's folder without what nothing needs, without what must go, or with what
ended badly opened anew."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from tracemend.cli.showing import print_json
from tracemend.embedded.looking import plan_of
from tracemend.embedded.purging import Purged
from tracemend.embedded.purging import purge as purged
from tracemend.embedded.redriving import Redriven, find_units
from tracemend.embedded.redriving import redrive as redriven
from tracemend.embedded.upkeep import Collected, collect
from tracemend.embedded.workspace import current_run, open_workspace

_GO_ON = "the run's command ends them once more"


def gc(folder: Path, *, grace_hours: float, as_json: bool) -> None:
    """Delete what has been without a reference for the grace time, and print how much that was."""
    current_run(folder)  # a folder that holds no run is refused before anything is created in it

    async def body() -> Collected:
        async with open_workspace(folder) as workspace:
            return await collect(workspace, grace_s=grace_hours * 3600)

    found = asyncio.run(body())
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    print(f"{found.num_deleted:,} blobs deleted, {found.num_kept:,} in use")
    if found.num_waiting:
        print(f"{found.num_waiting:,} more are deleted once they had no reference for {grace_hours:g} hours")


def purge(folder: Path, prompt: str, *, as_json: bool) -> None:
    """Remove the prompt and print what has to be made again."""
    current_run(folder)

    async def body() -> Purged:
        async with open_workspace(folder) as workspace:
            return await purged(workspace, prompt)

    found = asyncio.run(body())
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    print(f"{found.num_records:,} records emptied in {found.num_packs:,} packs")
    for arm in found.datasets:
        print(f"dataset of {arm}: deleted; the run's command builds it again without the prompt")
    for arm in found.checkpoints:
        print(f"model of {arm}: was trained on it; the run's command trains it again")
    print("The report was deleted with it. Sources, exports and uploads of your own are not touched.")


def redrive(folder: Path, *, arm: str | None, reason: str | None, dry_run: bool, as_json: bool) -> None:
    """Open the units, or with `dry_run` none, and print how many there are, by what they had ended in."""
    run = current_run(folder)

    async def body() -> Redriven:
        async with open_workspace(folder) as workspace:
            plan = await plan_of(workspace, run)
            step = find_units if dry_run else redriven
            return await step(workspace, run=run, plan=plan, arm=arm, reason=reason)

    found = asyncio.run(body())
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    if not found.num_units:
        print("Nothing to redrive: no unit is dead, rejected or given up.")
        return
    for cause, number in sorted(found.reasons.items(), key=lambda item: (-item[1], item[0])):
        print(f"{number:,} ended {cause}")
    for name, number in found.prompts.items():
        print(f"{name}: {number:,} prompts {'would be' if dry_run else 'are'} open again")
    print(f"{found.num_units:,} units in all; {'nothing was changed' if dry_run else _GO_ON}.")
