"""Leases among the processes of one machine, as locks on files of a folder. Made by `sql_server` beside a SQLite file.

A lock belongs to an open file, not to a process: two holders in one process keep each other out as well. The system
lets go of it however its holder ends, so a lease is never lost while it is held. The files stay: removing one would
let two hold locks on different files of one name.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

_PATIENCE_S = 0.05
"""How long to wait between two tries."""


class FileLease:
    """`kit.server_ports.Lease`."""

    is_lost = False

    def __init__(self, name: str) -> None:
        self.name = name

    async def lost(self) -> None:
        """Never returns."""
        await asyncio.Event().wait()


class FileLeases:
    """`kit.server_ports.Leases`, one file of `folder` per name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[FileLease]:
        while True:
            async with self.try_hold(name) as lease:
                if lease is not None:
                    yield lease
                    return
            await asyncio.sleep(_PATIENCE_S)

    @asynccontextmanager
    async def try_hold(self, name: str) -> AsyncIterator[FileLease | None]:
        with self._open(name) as handle:
            yield FileLease(name) if _try_lock(handle) else None

    async def aclose(self) -> None:
        """Nothing to do: what is held is let go of where its context ends."""

    def _open(self, name: str) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        return (self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock").open("ab")


def _try_lock(handle: IO[bytes]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
