"""Calls to a gRPC server by its descriptors, as a test makes them: any method, any bytes, and the fault at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from grpc import aio

from tracemend.runtime.rpc.faults import Fault, read_fault
from tracemend.runtime.rpc.methods import Method

_LOST_STATUS = "Internal error from Core"


async def call(channel: Any, method: Method, *requests: Any, within_s: float | None = 10.0, **metadata: str) -> Any:
    """The response, or the list of them; raises the server's `Fault`. Metadata keys have `_` for `-`."""
    return await _answer(
        start(channel, method, [request.SerializeToString() for request in requests], within_s=within_s, **metadata),
        method,
    )


async def fault(channel: Any, method: Method, *requests: Any, within_s: float | None = 10.0, **metadata: str) -> Fault:
    """The fault that the call ends in; an assertion fails where it succeeds."""
    while True:
        try:
            answer = await call(channel, method, *requests, within_s=within_s, **metadata)
        except Fault as ended:
            # grpc/grpc#36066: a write just after the server has ended the call overwrites what the server said.
            if not (method.streams_requests and _LOST_STATUS in str(ended)):
                return ended
        else:
            raise AssertionError(f"{method.full_name} succeeded: {type(answer).__name__}")


def start(channel: Any, method: Method, contents: Sequence[bytes], *, within_s: float | None, **metadata: str) -> Any:
    """The grpc.aio call under way, with encoded requests."""
    arity = ("stream" if method.streams_requests else "unary", "stream" if method.streams_responses else "unary")
    multicallable = getattr(channel, "_".join(arity))(method.path, response_deserializer=method.response.FromString)
    given = _each(contents) if method.streams_requests else contents[0]
    entries = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
    return multicallable(given, timeout=within_s, metadata=entries)


async def _answer(started: Any, method: Method) -> Any:
    try:
        return [response async for response in started] if method.streams_responses else await started
    except aio.AioRpcError as error:
        raise read_fault(error) from None


async def _each(contents: Sequence[bytes]) -> AsyncIterator[bytes]:
    for content in contents:
        yield content


def plain_channel(port: int) -> Any:
    """A bare channel without any of our comforts."""
    return aio.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.use_local_subchannel_pool", 1),))
