"""Channels to services: retries, balancing, limits, keepalive, and credentials that follow their files.

`open_channel` gives what generated stubs take for a channel. Every call carries the current call's id, trace and
remaining time, a key that makes the channel's own retries harmless, and the bearer token of the moment. When
certificate files change, new calls go over a new connection, and the old one is closed once its calls have ended.
Nothing may be forked while a channel is open (gRPC cannot bear it).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tracemend.runtime.rpc.call import remaining_s, request_id, trace
from tracemend.runtime.rpc.channel_options import channel_options
from tracemend.runtime.rpc.files import Reloaded, read_secret
from tracemend.runtime.rpc.interceptors.idempotency import HEADER as IDEMPOTENCY_HEADER
from tracemend.runtime.rpc.interceptors.naming import HEADER as REQUEST_ID_HEADER
from tracemend.runtime.rpc.settings import ChannelSettings, ClientTls

_OLD_CALLS_S = 300.0
"""How long calls on a connection with old certificates may go on."""


def open_channel(address: str, settings: ChannelSettings, *, services: Sequence[Any] = ()) -> ServiceChannel:
    """A channel to `address` (`HOST:PORT`, resolved by DNS to all replicas, or any gRPC target).

    `services` are the protobuf service descriptors that will be called: their methods that may be repeated are, while
    servers are unavailable. Connects on first use. `SetupError` for credentials that cannot be read.
    """
    return ServiceChannel(address, settings, services=services)


class ServiceChannel:
    """A `grpc.aio.Channel` in form, for stubs and for `unary_unary(path, …)` and its three siblings."""

    def __init__(self, address: str, settings: ChannelSettings, *, services: Sequence[Any] = ()) -> None:
        self._address = (
            address if ":/" in address or address.startswith(("ipv4:", "ipv6:", "unix:")) else f"dns:///{address}"
        )
        self._settings = settings
        self._options = channel_options(settings, services)
        tls, token_file = settings.tls, settings.token_file
        self._credentials = None if tls is None else Reloaded(_files(tls), lambda: _credentials(tls))
        self._token = None if token_file is None else Reloaded([token_file], lambda: read_secret(token_file, "token"))
        self._sends_token = tls is not None or settings.token_over_plaintext
        self._channel: Any = None
        self._version = 0
        self._closing: set[asyncio.Task[None]] = set()

    def unary_unary(self, method: str, *serializers: Any, **options: Any) -> Callable[..., Any]:
        """As the channel of grpc.aio, likewise below."""
        return partial(self._call, "unary_unary", method, serializers, options)

    def unary_stream(self, method: str, *serializers: Any, **options: Any) -> Callable[..., Any]:
        return partial(self._call, "unary_stream", method, serializers, options)

    def stream_unary(self, method: str, *serializers: Any, **options: Any) -> Callable[..., Any]:
        return partial(self._call, "stream_unary", method, serializers, options)

    def stream_stream(self, method: str, *serializers: Any, **options: Any) -> Callable[..., Any]:
        return partial(self._call, "stream_stream", method, serializers, options)

    async def channel_ready(self) -> None:
        """Returns when a connection stands."""
        await self._current().channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Close all connections; calls under way get `grace` seconds."""
        for task in list(self._closing):
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def _call(
        self,
        arity: str,
        method: str,
        serializers: tuple[Any, ...],
        options: dict[str, Any],
        *request: Any,
        **given: Any,
    ) -> Any:
        multicallable = getattr(self._current(), arity)(method, *serializers, **options)
        named = ((IDEMPOTENCY_HEADER, uuid.uuid4().hex),) if arity == "unary_unary" else ()
        given["metadata"] = (*(given.get("metadata") or ()), *named, *self._metadata())
        given["timeout"] = self._timeout(given.get("timeout"), is_unary=arity == "unary_unary")
        return multicallable(*request, **given)

    def _metadata(self) -> list[tuple[str, str]]:
        entries = [(key, value) for key, value in trace().items() if value]
        if name := request_id():
            entries.append((REQUEST_ID_HEADER, name))
        if self._token is not None and self._sends_token:
            entries.append(("authorization", f"Bearer {self._token.get()}"))
        return entries

    def _timeout(self, given: float | None, *, is_unary: bool) -> float | None:
        """What is asked for, and never more than the call that this one is made for has left."""
        asked = self._settings.default_deadline_s if given is None and is_unary else given
        bounds = [seconds for seconds in (asked, remaining_s()) if seconds is not None]
        return min(bounds) if bounds else None

    def _current(self) -> Any:
        from grpc import aio

        credentials = self._credentials.get() if self._credentials is not None else None
        version = self._credentials.version if self._credentials is not None else 0
        if self._channel is not None and version == self._version:
            return self._channel
        if self._channel is not None:
            task = asyncio.get_running_loop().create_task(self._channel.close(_OLD_CALLS_S))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._version = version
        if credentials is None:
            self._channel = aio.insecure_channel(self._address, options=self._options)
        else:
            self._channel = aio.secure_channel(self._address, credentials, options=self._options)
        return self._channel


def _files(tls: ClientTls) -> list[Path]:
    return [path for path in (tls.ca_file, tls.cert_file, tls.key_file) if path is not None]


def _credentials(tls: ClientTls) -> Any:
    import grpc

    certificate = read_secret(tls.cert_file, "tls.cert_file").encode() if tls.cert_file else None
    key = read_secret(tls.key_file, "tls.key_file").encode() if tls.key_file else None
    return grpc.ssl_channel_credentials(read_secret(tls.ca_file, "tls.ca_file").encode(), key, certificate)
