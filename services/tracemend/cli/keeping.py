"""`tracemend gc` and `tracemend purge`: a run's folder without what nothing needs, or without what must go."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from tracemend.cli.showing import print_json
from tracemend.embedded.purging import Purged
from tracemend.embedded.purging import purge as purged
from tracemend.embedded.upkeep import Collected, collect
from tracemend.embedded.workspace import current_run, open_workspace


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
