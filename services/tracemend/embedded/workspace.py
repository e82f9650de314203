"""A run's folder: its lock, ledger, store and bus, opened together and closed together.

DIR/run.yaml          the run file as it was started
DIR/state/ledger.db   what happened (SQLite)
DIR/state/blobs/      payloads, content-addressed
DIR/datasets/ARM/     published rows
DIR/checkpoints/ARM/  trained models
DIR/report.html|json  the result
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tracemend.embedded.whole_files import replace_text
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Bus, Ledger, Store
from tracemend.kit.results import Results
from tracemend.runtime.jobs import Crew
from tracemend.runtime.opening import open_bus, open_ledger, open_store
from tracemend.topics import ALL
from tracemend.wire import WireCodec


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The opened parts of one run's folder."""

    folder: Path
    store: Store
    ledger: Ledger
    results: Results
    worker: str
    is_shared: bool = False
    """Whether other machines go on with what is made here, so that trained models have to lie in the store too."""
    crew: Crew | None = None
    """The nodes that train together, all with this folder; None where one trains alone."""

    def new_bus(self) -> Bus:
        """A bus of its own for one flow: what one flow publishes, no other sees."""
        return open_bus("memory:")

    def keep_run_file(self, text: str) -> None:
        """Leave the run file beside what it makes."""
        try:
            replace_text(self.folder / "run.yaml", text)  # it may be the very file that the command was given
        except OSError as error:
            raise _unusable(self.folder, error) from None


@asynccontextmanager
async def open_workspace(folder: Path, *, writes: bool = True) -> AsyncIterator[Workspace]:
    """Open `folder`, creating it when `writes`; one process at a time may write."""
    state = folder / "state"
    if writes:
        try:
            state.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(folder, error) from None
    elif not (state / "ledger.db").exists():
        raise SetupError(f"{folder}: holds no run; `tracemend run RUN.yaml --out {folder}` starts one")
    lock = _lock(state / "lock") if writes else None
    store = open_store(f"file:{state}")
    ledger = open_ledger(f"sqlite:{state / 'ledger.db'}")
    try:
        results = Results(store=store, ledger=ledger, codec=WireCodec(), topics=ALL)
        yield Workspace(folder=folder, store=store, ledger=ledger, results=results, worker=f"embedded-{os.getpid()}")
    finally:
        await ledger.aclose()
        if lock is not None:
            lock.close()


@asynccontextmanager
async def connect_workspace(
    folder: Path, *, store: str, ledger: str, worker: str, crew: Crew | None = None
) -> AsyncIterator[Workspace]:
    """A workspace over a cluster's store and ledger, by their URLs. `folder` takes what is made on this machine, and is
    locked like any: one process at a time works in it, of a crew the first node's."""
    (folder / "state").mkdir(parents=True, exist_ok=True)
    lock = _lock(folder / "state" / "lock")
    blobs = open_store(store)
    books = open_ledger(ledger)
    try:
        results = Results(store=blobs, ledger=books, codec=WireCodec(), topics=ALL)
        yield Workspace(
            folder=folder, store=blobs, ledger=books, results=results, worker=worker, is_shared=True, crew=crew
        )
    finally:
        await books.aclose()
        lock.close()


def remember_current(folder: Path, run: str) -> None:
    """Note which of the folder's runs commands without a run id mean."""
    replace_text(folder / "state" / "current", run)


def current_run(folder: Path) -> str:
    """The run that the folder's last command worked on; a `SetupError` if there was none."""
    try:
        return (folder / "state" / "current").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise SetupError(f"{folder}: holds no run; `tracemend run RUN.yaml --out {folder}` starts one") from None


def _unusable(folder: Path, error: OSError) -> SetupError:
    return SetupError(f"{folder}: cannot keep a run there ({error.strerror}); choose another folder")


def _lock(path: Path) -> IO[str]:
    handle = path.open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        busy = f"{path.parent.parent}: another tracemend process is working on this run"
        raise SetupError(f"{busy}; wait for it to end, or take another folder") from None
    return handle
