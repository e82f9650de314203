"""Phases: the run's long steps, each done once. A phase's key hashes its inputs, so a changed setting repeats exactly
what depends on it, and a killed run goes on with the first phase that has no result.

A setting that is changed back finds its old result, which then is the run's latest again: commands that look at a run
(`results_of`) must see what its last command saw.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from tracemend.embedded.workspace import Workspace
from tracemend.kit.ids import canonical, make_id
from tracemend.kit.ports import Address


async def once(workspace: Workspace, run: str, name: str, inputs: list[Any], work: Callable[[], Awaitable[Any]]) -> Any:
    """The JSON result of phase `name` for `inputs`: from the ledger if it is done, else from `work`."""
    key = make_id("phase", name, *inputs)
    address = await workspace.ledger.phase(run, key)
    if address is None:
        content = canonical(await work())
        digest = await workspace.store.put(content)
        address = Address(pack=digest, offset=0, length=len(content), digest=digest)
        address = await workspace.ledger.finish_phase(run, key, name=name, address=address)
    else:
        await _make_latest(workspace, run, name, key, address)
    return json.loads(await workspace.store.get(address.pack))


async def known(workspace: Workspace, run: str, name: str, inputs: list[Any]) -> Any:
    """The result of phase `name` for `inputs`, if it is done; else None."""
    address = await workspace.ledger.phase(run, make_id("phase", name, *inputs))
    return None if address is None else json.loads(await workspace.store.get(address.pack))


async def _make_latest(workspace: Workspace, run: str, name: str, key: str, address: Address) -> None:
    phases = await workspace.ledger.phases(run)
    latest = [found for known, _, found in phases if known == name][-1]
    if latest != address:
        again = make_id("phase", key, len(phases))
        await workspace.ledger.finish_phase(run, again, name=name, address=address)


async def latest(workspace: Workspace, run: str, name: str) -> Any:
    """The latest result of phase `name`; None where there is none."""
    addresses = [address for known, _, address in await workspace.ledger.phases(run) if known == name]
    return json.loads(await workspace.store.get(addresses[-1].pack)) if addresses else None


async def results_of(workspace: Workspace, run: str) -> dict[str, Any]:
    """Phase name to its latest result."""
    found: dict[str, Any] = {}
    for name, _, address in await workspace.ledger.phases(run):
        found[name] = json.loads(await workspace.store.get(address.pack))
    return found
