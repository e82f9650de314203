"""Trained models on their way between machines: into the cluster's store where one was trained, out of it elsewhere.

The arms of a run keep every checkpoint that they train where the workspace is shared, and fetch what was trained on
another machine. What is stored is a list of the folder's files, as a phase of the run, and their contents in parts. A
folder that is fetched appears whole or not at all, and every byte of it was verified: parts by the store, files by
their own digests.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import structlog

from tracemend.embedded.phases import known, once
from tracemend.embedded.workspace import Workspace
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Store
from tracemend.records import Checkpoint

PHASE = "carried"
_PART_BYTES = 64 * 1024 * 1024

log = structlog.get_logger(__name__)


async def fetch(workspace: Workspace, run: str, checkpoint: Checkpoint) -> None:
    """Write the checkpoint's folder from the store, where it is not here and was kept."""
    folder = workspace.folder / checkpoint.path
    if folder.is_dir():
        return
    listed = await known(workspace, run, _phase(checkpoint), [checkpoint.model])
    if listed is not None:
        log.info("fetching a checkpoint", run=run, arm=checkpoint.arm)
        await fetch_folder(workspace.store, listed, folder)


async def keep(workspace: Workspace, run: str, checkpoint: Checkpoint) -> None:
    """Store the checkpoint's folder, unless that was done."""
    folder = workspace.folder / checkpoint.path
    store = workspace.store
    await once(workspace, run, _phase(checkpoint), [checkpoint.model], lambda: store_folder(store, folder))


async def store_folder(store: Store, folder: Path) -> dict[str, Any]:
    """Put every file below `folder` into the store; the list that `fetch_folder` takes."""
    paths = await asyncio.to_thread(lambda: sorted(path for path in folder.rglob("*") if path.is_file()))
    return {"files": [await _store_file(store, path, name=path.relative_to(folder).as_posix()) for path in paths]}


async def fetch_folder(store: Store, listed: dict[str, Any], folder: Path) -> None:
    """Write the files of a list to `folder`, which is not there yet; a `SetupError` where the store lacks a part."""
    beside = folder.with_name(f".{folder.name}.fetched")
    await asyncio.to_thread(shutil.rmtree, beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        for file in listed["files"]:
            await _fetch_file(store, file, beside)
    except KeyError as lost:
        raise SetupError(
            f"the store lacks a part of {folder.name} ({str(lost.args[0])[:16]}): train the arm again in a new run"
        ) from None
    beside.rename(folder)


def parts_of(listed: dict[str, Any]) -> Iterator[str]:
    """The digests of the blobs that a list refers to."""
    for file in listed["files"]:
        yield from file["parts"]


def _phase(checkpoint: Checkpoint) -> str:
    return f"{PHASE}:{checkpoint.arm}"


async def _store_file(store: Store, path: Path, *, name: str) -> dict[str, Any]:
    whole, parts, num_bytes = hashlib.sha256(), [], 0
    with path.open("rb") as file:
        while part := await asyncio.to_thread(file.read, _PART_BYTES):
            await asyncio.to_thread(whole.update, part)
            parts.append(await store.put(part))
            num_bytes += len(part)
    return {"name": name, "num_bytes": num_bytes, "sha256": whole.hexdigest(), "parts": parts}


async def _fetch_file(store: Store, file: dict[str, Any], folder: Path) -> None:
    name = PurePosixPath(file["name"])
    if name.is_absolute() or ".." in name.parts:
        raise SetupError(f"a stored folder lists the file {file['name']!r}, which lies outside of it: do not use it")
    path, whole = folder / name, hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as written:
        for digest in file["parts"]:
            part = await store.get(digest)
            await asyncio.to_thread(whole.update, part)
            await asyncio.to_thread(written.write, part)
    if whole.hexdigest() != file["sha256"]:
        raise SetupError(f"{name} was stored with another digest than its parts make: train the arm again")
