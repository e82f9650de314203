"""Ports that report what they do: stores with spans, ledgers with times and spans, engines with tokens and seconds.

Programs wrap what they open: `measured_ledger(open_ledger(url), telemetry)`. A wrapped port behaves as the bare one,
and answers every attribute that it has. Spans name the operation and never what it was about. Stores and buses in the
network count their own operations, retries among them.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from tracemend.kit.ports import Capabilities, Completion, Ledger, ModelRequest, Store, TextModel
from tracemend.kit.prices import Price
from tracemend.kit.telemetry import (
    ENGINE_SECONDS,
    ENGINE_STARTS,
    ENGINE_WAITING,
    LEDGER_SECONDS,
    TOKENS,
    Telemetry,
)


def traced_store(store: Store, telemetry: Telemetry) -> Store:
    """`store`, with a span for every operation."""
    return cast(Store, _Measured(store, telemetry, system="store"))


def measured_ledger(ledger: Ledger, telemetry: Telemetry) -> Ledger:
    """`ledger`, with times by operation."""
    return cast(Ledger, _Measured(ledger, telemetry, system="ledger", metric=LEDGER_SECONDS))


def measured_model(model: TextModel, telemetry: Telemetry, *, name: str, price: Price | None = None) -> TextModel:
    """`model`, known as `name` in run files, with its tokens and seconds counted. Where it has a `price` and asks for
    no money itself, completions carry what they took by that price, and so does the ledger."""
    telemetry.count(ENGINE_STARTS, model=name)
    return _MeasuredModel(model, telemetry, name=name, price=price)


class _Measured:
    """A port whose coroutine methods are timed; everything else is the port's own."""

    def __init__(self, port: object, telemetry: Telemetry, *, system: str, metric: str = "") -> None:
        self._port = port
        self._telemetry = telemetry
        self._system = system
        self._metric = metric

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._port, name)
        if not inspect.iscoroutinefunction(value):
            return value
        timed = self._timed(name, value)
        setattr(self, name, timed)  # the next look-up does not come here
        return timed

    def _timed(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(method)
        async def timed(*arguments: Any, **named: Any) -> Any:
            started, outcome = time.perf_counter(), "failed"
            try:
                with self._telemetry.span(f"{self._system} {name}", op=name, database=self._system):
                    result = await method(*arguments, **named)
                outcome = "ok"
                return result
            finally:
                if self._metric:
                    elapsed_s = time.perf_counter() - started
                    self._telemetry.observe(self._metric, elapsed_s, op=name, outcome=outcome)

        return timed


class _MeasuredModel:
    """An engine whose completions are counted and priced."""

    def __init__(self, model: TextModel, telemetry: Telemetry, *, name: str, price: Price | None) -> None:
        self._model = model
        self._telemetry = telemetry
        self._name = name
        self._price = price
        self._num_running = 0

    @property
    def identity(self) -> str:
        return self._model.identity

    @property
    def capabilities(self) -> Capabilities:
        return self._model.capabilities

    async def complete(self, request: ModelRequest) -> Completion:
        kind = "chat" if request.messages else "text_completion"
        self._step(1)
        try:
            with self._telemetry.span(f"{kind} {self._name}", gen_ai_operation=kind, model=self._name):
                completion = await self._model.complete(request)
        finally:
            self._step(-1)
        if self._price is not None and not completion.money:
            completion = dataclasses.replace(completion, money=self._price.of_completion(completion))
        self._count(completion)
        return completion

    async def aclose(self) -> None:
        await self._model.aclose()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def _step(self, number: int) -> None:
        self._num_running += number
        self._telemetry.gauge(ENGINE_WAITING, self._num_running, model=self._name)

    def _count(self, completion: Completion) -> None:
        num_computed = completion.num_prompt_tokens - completion.num_cached_tokens
        kinds = {"prompt": num_computed, "cached": completion.num_cached_tokens, "new": completion.num_new_tokens}
        for kind, number in kinds.items():
            self._telemetry.count(TOKENS, number, model=self._name, kind=kind)
        self._telemetry.count(ENGINE_SECONDS, completion.seconds, model=self._name)
