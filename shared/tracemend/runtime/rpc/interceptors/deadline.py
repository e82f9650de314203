"""Deadlines: unary calls end in time, and handlers know how much they have left.

A call with effects must say how long its caller waits: without that, work would go on for somebody who has gone. A
reading call that does not say gets a default, and nobody gets for ever. Streams are bounded by the connection's age.
"""

from __future__ import annotations

import asyncio

from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.chain import Proceed
from tracemend.runtime.rpc.faults import Code, Fault


class Deadline:
    """Requires, bounds and keeps deadlines."""

    def __init__(self, *, default_s: float, max_s: float) -> None:
        self._default_s = default_s
        self._max_s = max_s

    async def __call__(self, call: Call, proceed: Proceed) -> None:
        if not call.method.is_unary:
            await proceed(call)
            return
        asked_s = call.time_remaining()
        if asked_s is None and not call.method.is_reading:
            message = "set a deadline: this call has effects, and must not outlive whoever waits for it"
            raise Fault(Code.INVALID_ARGUMENT, "DEADLINE_REQUIRED", message)
        given_s = min(self._default_s if asked_s is None else asked_s, self._max_s)
        ends = asyncio.get_running_loop().time() + given_s
        call.time_remaining = lambda: max(0.0, ends - asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(given_s) as limit:
                await proceed(call)
        except TimeoutError:
            if not limit.expired():
                raise
            raise Fault(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "the work did not end in time") from None
