"""`tracemend export`: what a run made, as a folder to hand on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tracemend.cli.showing import print_json
from tracemend.embedded.exporting import Exported, push
from tracemend.embedded.exporting import export as exported
from tracemend.embedded.looking import open_run


def export(
    folder: Path, arm: str, *, to: Path, what: str, push: str | None, is_public: bool, force: bool, as_json: bool
) -> None:
    """Write the folder, upload it if asked to, and print where it is."""

    async def body() -> Exported:
        async with open_run(folder) as opened:
            return await exported(opened, arm, to=to, what=what, force=force)

    made = asyncio.run(body())
    address = _push(made, push, is_public=is_public) if push else ""
    if as_json:
        print_json({"kind": made.kind, "folder": str(made.folder), "identity": made.identity, "address": address})
        return
    print(f"{made.kind} of {arm}: {made.folder} ({made.identity[:16]})")
    if address:
        print(f"uploaded: {address} ({'public' if is_public else 'private'})")


def _push(made: Exported, repository: str, *, is_public: bool) -> str:
    return push(made, repository, is_public=is_public)
