"""URLs to adapters: the scheme names the technology, and only the adapter that is asked for is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Bus, Ledger, Store
from tracemend.kit.registry import did_you_mean

T = TypeVar("T")


def open_bus(url: str) -> Bus:
    """`memory:`."""
    return _open("bus", url, {"memory": _memory_bus})


def open_store(url: str) -> Store:
    """`file:FOLDER`."""
    return _open("store", url, {"file": _folder_store})


def open_ledger(url: str) -> Ledger:
    """`sqlite:FILE`."""
    return _open("ledger", url, {"sqlite": _sql_ledger})


def _open(port: str, url: str, openers: Mapping[str, Callable[[str], T]]) -> T:
    scheme = url.split(":", 1)[0]
    if scheme not in openers:
        raise SetupError(f"{port} URL '{url}': unknown scheme '{scheme}'{did_you_mean(scheme, sorted(openers))}")
    return openers[scheme](url)


def _memory_bus(url: str) -> Bus:
    from tracemend.adapters.memory_bus import MemoryBus
    from tracemend.wire import WireCodec

    return MemoryBus(WireCodec())


def _folder_store(url: str) -> Store:
    from pathlib import Path

    from tracemend.adapters.folder_store import FolderStore

    return FolderStore(Path(url.split(":", 1)[1]))


def _sql_ledger(url: str) -> Ledger:
    from tracemend.adapters.sql_ledger import SqlLedger

    return SqlLedger(url)
