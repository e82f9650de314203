"""Keeping a run's folder small: deleting what nothing refers to any more.

`tracemend gc` calls it under the folder's lock, so never while a run is working. Killed processes leave packs that no
ledger row names, and rebuilt datasets leave their old shards. A blob is deleted once it has been found without a
reference for the grace time: the first pass notes it, a later one deletes it, and one that is referred to again
meanwhile is forgotten.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemend.embedded import carrying, underway
from tracemend.embedded.whole_files import replace_text
from tracemend.embedded.workspace import Workspace
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Address

_NOTES = "garbage.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a pass over the store found and did."""

    num_kept: int
    num_waiting: int
    """Without a reference, but not for long enough."""
    num_deleted: int


async def collect(workspace: Workspace, *, grace_s: float, clock: Callable[[], float] = time.time) -> Collected:
    """Delete the blobs that have been without a reference for `grace_s` seconds."""
    used = await _used(workspace)
    path = workspace.folder / "state" / _NOTES
    known, now = _notes(path), clock()
    waiting: dict[str, float] = {}
    num_kept = num_deleted = 0
    async for digest in workspace.store.digests():
        if digest in used:
            num_kept += 1
            continue
        since = known.get(digest, now)
        if now - since >= grace_s:
            await workspace.store.delete(digest)
            num_deleted += 1
        else:
            waiting[digest] = since
    replace_text(path, json.dumps(waiting))
    return Collected(num_kept=num_kept, num_waiting=len(waiting), num_deleted=num_deleted)


async def _used(workspace: Workspace) -> set[str]:
    """What the ledger refers to, and what stored manifests of datasets and lists of carried files name. Of trainings
    under way, the newest checkpoints alone are wanted."""
    used = await workspace.ledger.referenced()
    for run in await workspace.ledger.runs():
        lists: defaultdict[str, list[Address]] = defaultdict(list)
        for name, _, address in await workspace.ledger.phases(run):
            lists[name].append(address)
        for name, addresses in lists.items():
            phase = name.partition(":")[0]
            if phase in ("assemble", carrying.PHASE, underway.PHASE):
                for address in addresses[-underway.KEPT :] if phase == underway.PHASE else addresses:
                    listed: dict[str, Any] = json.loads(await workspace.store.get(address.pack))
                    used.update(listed["shards"] if phase == "assemble" else carrying.parts_of(listed))
    return used


def _notes(path: Path) -> dict[str, float]:
    try:
        return {str(digest): float(since) for digest, since in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        raise SetupError(f"{path} is damaged; remove it, the grace time then begins anew") from None
