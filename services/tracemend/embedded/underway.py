"""Checkpoints of a training that still goes on, on their way to the store: where its machine is lost, another one goes
on from the newest that lies there.

`Arms` holds a training in `carried_along` where the workspace is shared. Only sealed checkpoints are stored, as hard
links that the training's own pruning cannot take away, and only as listed in their seal. The training never waits for
the store; a store that is away is asked again with the next look.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog

from tracemend.embedded.carrying import fetch_folder, store_folder
from tracemend.embedded.phases import once
from tracemend.embedded.workspace import Workspace
from tracemend.kit.errors import CorruptBlob, Retry, SetupError
from tracemend.kit.ids import make_id
from tracemend.trainer.checkpoints import SEAL, sealed_folders, step_of
from tracemend.trainer.dataset import read_manifest
from tracemend.trainer.training import TrainingJob

PHASE = "underway"
KEPT = 2
"""How many of a training's checkpoints in the store are wanted: the newest, and one to fall back on."""
LOOK_S = 2.0

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def carried_along(
    workspace: Workspace, run: str, job: TrainingJob, *, look_s: float = LOOK_S
) -> AsyncIterator[None]:
    """While inside, each checkpoint of `job` is copied to the store; before, the newest one that lies there is fetched.
    What the training left when it was stopped is copied before leaving."""
    carrier = _Carrier(workspace, run, job)
    await carrier.fetch_newest()
    looking = asyncio.create_task(carrier.look_for_ever(look_s))
    try:
        yield
    except BaseException:
        await _end(looking)
        await carrier.keep_newest()
        raise
    await _end(looking)


class _Carrier:
    def __init__(self, workspace: Workspace, run: str, job: TrainingJob) -> None:
        self._workspace = workspace
        self._run = run
        self._checkpoints = job.folder / "checkpoints"
        self._name = f"{PHASE}:{_identity(job)}"
        self._last: Path | None = None

    async def fetch_newest(self) -> None:
        """Fetch the furthest stored checkpoint that is whole, unless there is one here that is as far."""
        here = [step_of(checkpoint) for checkpoint in sealed_folders(self._checkpoints)]
        for stored in await self._stored():
            folder = self._checkpoints / f"checkpoint-{stored['step']}"
            if here and max(here) >= stored["step"]:
                return
            try:
                shutil.rmtree(folder, ignore_errors=True)  # one that was never sealed
                await fetch_folder(self._workspace.store, stored, folder)
            except (SetupError, CorruptBlob) as damage:
                log.warning("a stored checkpoint is not used", step=stored["step"], why=str(damage))
            else:
                log.info("a training goes on from the store", run=self._run, step=stored["step"])
                return

    async def look_for_ever(self, look_s: float) -> None:
        while True:
            await asyncio.sleep(look_s)
            await self.keep_newest()

    async def keep_newest(self) -> None:
        """Store the newest sealed checkpoint if it is not stored yet."""
        newest = next(iter(sealed_folders(self._checkpoints)), None)
        if newest is None or newest == self._last:
            return
        linked = self._checkpoints.with_name(".underway") / newest.name
        try:
            await asyncio.to_thread(_link, newest, linked)
            await self._keep(linked)
        except FileNotFoundError:
            return  # pruned, or written again: the next look finds another one
        except Retry as away:
            log.warning("a checkpoint waits for the store", run=self._run, step=step_of(newest), why=away.reason)
        else:
            self._last = newest
        finally:
            await asyncio.to_thread(shutil.rmtree, linked.parent, ignore_errors=True)

    async def _keep(self, linked: Path) -> None:
        listed = await store_folder(self._workspace.store, linked)
        sealed = json.loads((linked / SEAL).read_text(encoding="utf-8"))["files"]
        if sealed != {file["name"]: file["sha256"] for file in listed["files"] if file["name"] != SEAL}:
            log.warning("a checkpoint is not what was sealed", run=self._run, step=step_of(linked))
            return
        stored = {"step": step_of(linked), **listed}

        async def as_it_is() -> dict[str, Any]:
            return stored

        await once(self._workspace, self._run, self._name, [stored], as_it_is)
        log.info("a checkpoint is stored", run=self._run, step=stored["step"])

    async def _stored(self) -> list[dict[str, Any]]:
        """Stored checkpoints of this training, the furthest first."""
        phases = await self._workspace.ledger.phases(self._run)
        addresses = [address for name, _, address in phases if name == self._name]
        found: list[dict[str, Any]] = []
        for address in addresses[-KEPT:]:
            with contextlib.suppress(KeyError, CorruptBlob):  # then the one before is as good as it gets
                found.append(json.loads(await self._workspace.store.get(address.pack)))
        return sorted(found, key=lambda stored: int(stored["step"]), reverse=True)


def _identity(job: TrainingJob) -> str:
    """Names a training by what it is, wherever its folders lie."""
    arguments = {name: value for name, value in job.arguments.items() if name not in ("base", "dataset", "root")}
    return make_id("training", arguments, read_manifest(job.dataset).digest)


def _link(checkpoint: Path, linked: Path) -> None:
    """A copy of the folder that shares the files' bytes: they stay when the folder is pruned."""
    shutil.rmtree(linked.parent, ignore_errors=True)
    for path in [path for path in checkpoint.rglob("*") if path.is_file()]:
        target = linked / path.relative_to(checkpoint)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    (linked / SEAL).stat()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
