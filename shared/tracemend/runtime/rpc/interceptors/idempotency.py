"""Idempotency: a request that names itself has one effect and one answer (AIP-155).

Answers are kept by caller, method and request id. Errors are not: whoever was refused may try again. Copies that arrive
together wait for each other, on one replica and, by a lease, on several. Where that lease is lost on the way, the
handlers' own first-writer rules decide, and all answer what was kept first.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any
from weakref import WeakValueDictionary

from tracemend.kit.server_ports import Leases, Remembered, Requests
from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.chain import Proceed
from tracemend.runtime.rpc.faults import Fault, precondition

HEADER = "idempotency-key"
_MAX_NAME_CHARS = 128


class Idempotency:
    """Replays the answer of a request that was answered before. What names it is `request_id` or, where that is empty,
    the metadata that channels give each call so that their own retries are harmless."""

    def __init__(self, requests: Requests | None, leases: Leases | None = None) -> None:
        """Without `leases` only the copies on this replica wait for each other."""
        self._requests = requests
        self._leases = leases
        self._locks: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, call: Call, proceed: Proceed) -> None:
        name = _name(call)
        if self._requests is None or not name:
            await proceed(call)
            return
        key = (call.caller.name, call.method.full_name, name)
        digest = hashlib.sha256(call.request.SerializeToString(deterministic=True)).hexdigest()
        async with self._locks.setdefault(key, asyncio.Lock()), self._turn(key):
            kept = await self._requests.recall(*key)
            if kept is None:
                await proceed(call)
                kept = await self._requests.remember(*key, digest=digest, response=call.response.SerializeToString())
        _replay(call, kept, digest)

    def _turn(self, key: tuple[str, str, str]) -> AbstractAsyncContextManager[object]:
        return nullcontext() if self._leases is None else self._leases.hold("/".join(("request", *key)))


def _name(call: Call) -> str:
    """What the call is known by; empty where it has no lasting effect, or nobody named it."""
    method = call.method
    if method.is_reading or not method.is_unary or not method.has_request_id:
        return ""
    if getattr(call.request, "validate_only", False):
        return ""
    return str(call.request.request_id) or call.text(HEADER)[:_MAX_NAME_CHARS]


def _replay(call: Call, kept: Remembered, digest: str) -> None:
    if kept.digest != digest:
        raise _reused()
    response: Any = call.method.response.FromString(kept.response)
    call.response = response


def _reused() -> Fault:
    return precondition(
        "REQUEST_ID_REUSED", "another request was made under this request_id; make a new id for a new wish"
    )
