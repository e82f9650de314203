"""Ports that wait out an outage: what could not be had now is asked for again until it can, however long that takes.

Programs wrap the ledger and the store that their pumps stand on: a restart of the database must not end every service,
and a pump can do nothing else meanwhile. Readiness asks the bare ports, so that an outage is seen, and ends the process
once it has lasted longer than the settings allow (`program_dependencies`). What is repeated has to bear it: results and
outcomes are the first writer's, a blob's name is its digest, and an attempt that is counted twice is one crash more.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Collection
from typing import Any, cast

import structlog

from tracemend.kit.errors import Retry
from tracemend.kit.ports import Ledger, Store

_LONGEST_WAIT_S = 5.0

log = structlog.get_logger(__name__)


def patient_ledger(ledger: Ledger) -> Ledger:
    """`ledger`, whose every operation waits; iterations raise `Retry` as they did."""
    return cast(Ledger, _Patient(ledger, impatient=("aclose",)))


def patient_store(store: Store) -> Store:
    """`store`, whose writes wait. Reads belong to single records, which go back to the bus."""
    return cast(Store, _Patient(store, impatient=("aclose", "get", "get_range", "has", "delete")))


class _Patient:
    """A port whose coroutine methods, all but the `impatient` ones, never raise `Retry`."""

    def __init__(self, port: object, *, impatient: Collection[str]) -> None:
        self._port = port
        self._impatient = impatient

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._port, name)
        if name in self._impatient or not inspect.iscoroutinefunction(value):
            return value
        waiting = _waiting(name, value)
        setattr(self, name, waiting)  # the next look-up does not come here
        return waiting


def _waiting(name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def waiting(*arguments: Any, **named: Any) -> Any:
        wait_s = 0.1
        while True:
            try:
                return await method(*arguments, **named)
            except Retry as away:
                log.warning("an operation waits", op=name, reason=away.reason, wait_s=wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    return waiting
