"""One call on its way through the chain, and what a servicer may ask about the call that it works for.

The chain fills a `Call` from the outside in; `caller()`, `request_id()`, `trace()` and `remaining_s()` read the
current one. gRPC runs each call as a task of its own, so what is set here ends with the call and is never reset; tasks
that a servicer starts inherit it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from tracemend.kit.telemetry import NO_TRACE
from tracemend.runtime.rpc.methods import Method
from tracemend.runtime.rpc.permissions import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls: a user's subject or a service's certificate name, and what they may do."""

    name: str
    roles: frozenset[Role]


NOBODY = Caller(name="", roles=frozenset())


@dataclass(slots=True, kw_only=True)
class Call:
    """What is known of a call. Interceptors add to it in the order of the chain; it belongs to one task."""

    method: Method
    metadata: Mapping[str, str | bytes]
    """As the client sent it; keys are lower case, the last value of a key counts."""
    identity: Callable[[], Mapping[str, list[bytes]]] = dict
    """What the transport knows of the peer: gRPC's authentication context."""
    received: AsyncIterator[bytes]
    """The encoded requests: exactly one where the method does not stream them."""
    respond: Callable[[Any], Awaitable[None]]
    """Sends one response message; awaits the client's flow control."""
    time_remaining: Callable[[], float | None] = lambda: None
    """Seconds until the deadline; None without one."""
    requests: AsyncIterator[Any] | None = None
    """The decoded and checked requests; set by validation."""
    request: Any = None
    """The one request of a method that does not stream them; set by validation."""
    response: Any = None
    """The last response: of a unary call, the answer."""
    request_id: str = ""
    caller: Caller = NOBODY
    trace: Mapping[str, str] = field(default_factory=dict)
    """W3C trace context for whatever this call sets going."""
    trailers: dict[str, str | bytes] = field(default_factory=dict)
    is_drained: bool = False
    """Whether the server ended it because it is shutting down."""

    def text(self, key: str) -> str:
        """The ASCII metadata value under `key`; empty where there is none."""
        value = self.metadata.get(key, "")
        return value if isinstance(value, str) else ""


CURRENT: ContextVar[Call] = ContextVar("tracemend_rpc_call")


def caller() -> Caller:
    """Who the current call is made by; nobody outside a call."""
    call = CURRENT.get(None)
    return call.caller if call is not None else NOBODY


def request_id() -> str:
    """What logs, traces and audit entries name the current call by; empty outside a call."""
    call = CURRENT.get(None)
    return call.request_id if call is not None else ""


def trace() -> Mapping[str, str]:
    """The trace context that messages and calls caused by this one carry on."""
    call = CURRENT.get(None)
    return call.trace if call is not None else NO_TRACE


def remaining_s() -> float | None:
    """Seconds that the current call has left; None where nothing bounds it."""
    call = CURRENT.get(None)
    return call.time_remaining() if call is not None else None
