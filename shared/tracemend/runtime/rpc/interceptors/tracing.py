"""Tracing: a span around every call, a child of the caller's, whose context goes on to all that the call causes."""

from __future__ import annotations

from tracemend.kit.telemetry import Telemetry
from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.chain import Proceed

HEADERS = ("traceparent", "tracestate")


class Tracing:
    """W3C trace context in, and on to `call.trace`."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    async def __call__(self, call: Call, proceed: Proceed) -> None:
        given = {key: call.text(key) for key in HEADERS if call.text(key)}
        with self._telemetry.span(call.method.full_name, trace=given) as call.trace:
            await proceed(call)
