"""Looking at a run: its folder opened for reading, with the plan that it was started with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tracemend.embedded.plan import Plan, from_content
from tracemend.embedded.workspace import Workspace, current_run, open_workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run that can be looked at, by another process that works on it as well."""

    workspace: Workspace
    run: str
    plan: Plan


@asynccontextmanager
async def open_run(folder: Path) -> AsyncIterator[OpenRun]:
    """The run in `folder`; a `SetupError` if there is none."""
    run = current_run(folder)
    async with open_workspace(folder, writes=False) as workspace:
        yield OpenRun(workspace=workspace, run=run, plan=await plan_of(workspace, run))


async def plan_of(workspace: Workspace, run: str) -> Plan:
    """The plan that `run` was last started with."""
    digest = await workspace.ledger.run_plan(run)
    assert digest is not None, "an opened run has a plan"
    return from_content(await workspace.store.get(digest))
