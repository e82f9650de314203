"""From a servicer's method to what gRPC calls: one form for all four arities, wrapped by the interceptors.

Interceptors see a `Call` and the rest of the chain, and never learn whether messages are streamed, so none can forget
an arity. Requests arrive encoded and are decoded by validation, after the caller is known to be allowed. The outermost
step, here, turns every end of a call into a status, and runs in the task that gRPC made for the call: nothing is left
to a garbage collector.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import structlog

from tracemend.kit.errors import TracemendError
from tracemend.runtime.rpc.call import CURRENT, Call
from tracemend.runtime.rpc.faults import DETAILS_KEY, Fault, fault_of, unavailable
from tracemend.runtime.rpc.methods import Method

log = structlog.get_logger(__name__)

Proceed: TypeAlias = Callable[[Call], Awaitable[None]]


class Interceptor(Protocol):
    """One step of the chain: does its part, and awaits `proceed(call)` unless it ends the call."""

    async def __call__(self, call: Call, proceed: Proceed) -> None: ...


def chained(interceptors: Sequence[Interceptor], innermost: Proceed) -> Proceed:
    """`innermost` inside the last interceptor, inside the one before it, and so on."""
    proceed = innermost
    for interceptor in reversed(interceptors):
        proceed = partial(interceptor, proceed=proceed)
    return proceed


def serving(method: Method, work: Callable[[Any, Call], Any]) -> Proceed:
    """The end of the chain: calls a servicer's method with the request (or the requests) and the call."""

    async def unary_response(call: Call) -> None:
        given = call.requests if method.streams_requests else call.request
        call.response = await work(given, call)

    async def streamed_response(call: Call) -> None:
        given = call.requests if method.streams_requests else call.request
        responses = work(given, call)
        try:
            async for response in responses:
                await call.respond(response)
        finally:
            await responses.aclose()

    return streamed_response if method.streams_responses else unary_response


class Running:
    """The calls under way, so that a drain can end the endless ones and wait for the others."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], Call] = {}
        self.is_draining = False

    def __len__(self) -> int:
        return len(self._tasks)

    def enter(self, call: Call) -> asyncio.Task[Any]:
        """Note that the current task works for `call`; UNAVAILABLE once the server is draining."""
        if self.is_draining:
            raise draining()
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = call
        return task

    def leave(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    def drain(self) -> None:
        """Refuse new calls and end the watching ones: their clients go on elsewhere."""
        self.is_draining = True
        for task, call in self._tasks.items():
            if call.method.is_reading and call.method.streams_responses:
                call.is_drained = True
                task.cancel()

    async def finished(self) -> None:
        """Returns when no call is left."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))
            await asyncio.sleep(0)


def draining() -> Fault:
    """What calls are told while the server shuts down."""
    return unavailable("DRAINING", "this server is shutting down; call again, another one answers")


def rpc_handler(method: Method, proceed: Proceed, running: Running) -> Any:
    """The `grpc.RpcMethodHandler` that runs `proceed` for each call of `method`; messages stay encoded in gRPC."""
    import grpc

    async def unary(received: bytes, context: Any) -> bytes:
        call = _call(method, _one(received), context)
        await _run(call, context, proceed, running)
        return _encoded(call)

    async def unary_from_stream(received: AsyncIterator[bytes], context: Any) -> bytes:
        call = _call(method, received, context)
        await _run(call, context, proceed, running)
        return _encoded(call)

    async def stream(received: bytes, context: Any) -> None:
        await _run(_call(method, _one(received), context), context, proceed, running)

    async def stream_from_stream(received: AsyncIterator[bytes], context: Any) -> None:
        await _run(_call(method, received, context), context, proceed, running)

    if method.streams_requests and method.streams_responses:
        return grpc.stream_stream_rpc_method_handler(stream_from_stream)
    if method.streams_requests:
        return grpc.stream_unary_rpc_method_handler(unary_from_stream)
    if method.streams_responses:
        return grpc.unary_stream_rpc_method_handler(stream)
    return grpc.unary_unary_rpc_method_handler(unary)


async def _run(call: Call, context: Any, proceed: Proceed, running: Running) -> None:
    """Run the chain; every end but success and cancellation by the client becomes a status."""
    CURRENT.set(call)
    task = None
    try:
        task = running.enter(call)
        await proceed(call)
        context.set_trailing_metadata(tuple(call.trailers.items()))
        return
    except asyncio.CancelledError:
        if not call.is_drained:
            raise
        fault = draining()
    except TracemendError as error:
        fault = fault_of(error)
    except Exception as bug:  # the one place that must answer whatever a servicer does
        log.exception("call_failed", method=call.method.full_name, request=call.request_id)
        fault = fault_of(bug)
    finally:
        if task is not None:
            running.leave(task)
    await _abort(call, context, fault)


async def _abort(call: Call, context: Any, fault: Fault) -> None:
    import grpc

    trailers = (*call.trailers.items(), (DETAILS_KEY, fault.to_status().SerializeToString()))
    await context.abort(grpc.StatusCode[fault.code.value], fault.message, trailing_metadata=trailers)


def _call(method: Method, received: AsyncIterator[bytes], context: Any) -> Call:
    async def respond(message: Any) -> None:
        await context.write(message.SerializeToString())

    return Call(
        method=method,
        metadata=_metadata(context),
        identity=context.auth_context,
        received=received,
        respond=respond,
        time_remaining=context.time_remaining,
    )


def _metadata(context: Any) -> Mapping[str, str | bytes]:
    return dict(context.invocation_metadata() or ())


def _encoded(call: Call) -> bytes:
    content: bytes = call.response.SerializeToString()
    return content


async def _one(received: bytes) -> AsyncIterator[bytes]:
    yield received
