"""Metrics: how long every call took and how it ended, by method and status."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from tracemend.kit.telemetry import RPC_IN_FLIGHT, RPC_SERVER_SECONDS, Telemetry
from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.chain import Proceed
from tracemend.runtime.rpc.faults import Code, fault_of


class Metrics:
    """Counts every end, cancellation and refusal too."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._in_flight: Counter[str] = Counter()

    async def __call__(self, call: Call, proceed: Proceed) -> None:
        method, started, code = call.method.full_name, time.perf_counter(), "OK"
        self._step(method, 1)
        try:
            await proceed(call)
        except asyncio.CancelledError:
            code = Code.CANCELLED.value
            raise
        except Exception as error:
            code = fault_of(error).code.value
            raise
        finally:
            self._step(method, -1)
            self._telemetry.observe(RPC_SERVER_SECONDS, time.perf_counter() - started, method=method, code=code)

    def _step(self, method: str, number: int) -> None:
        self._in_flight[method] += number
        self._telemetry.gauge(RPC_IN_FLIGHT, self._in_flight[method], method=method)
