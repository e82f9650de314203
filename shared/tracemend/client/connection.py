"""The way to a cluster: channel, credentials, deadlines, and patience while it is out of reach.

Every method that changes something names its request, so a call whose answer was lost is simply made again, as long as
the patience lasts. Streams are not repeated here: uploads and watches know where they stand and go on from there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from tracemend.client.errors import CallError
from tracemend.kit.errors import SetupError

MAX_MESSAGE_BYTES = 8 * 2**20
_PURPOSE = "x-tracemend-purpose"
_SERVICE_CONFIG = '{"loadBalancingConfig": [{"round_robin": {}}]}'
_LONGEST_DELAY_S = 10.0
_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "xds:")
"""Of gRPC's own; an address that begins with none of them is HOST:PORT, and the host may stand for several servers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who the client is and whom it trusts. Files are read again for every connection or call, so they may rotate."""

    ca_file: Path | None = None
    """Who signs the servers' certificates, PEM; None for the system's authorities."""
    cert_file: Path | None = None
    key_file: Path | None = None
    token_file: Path | None = None
    """Holds a bearer token."""
    plaintext: bool = False
    """No TLS, and the token goes as it is: where a mesh encrypts. To this machine itself it is the default."""

    def token(self) -> str:
        """The bearer token as it is now; empty without one."""
        return _read(self.token_file).decode().strip() if self.token_file else ""


class Connection:
    """A channel to one service. Belongs to one event loop; made inside of it."""

    def __init__(
        self,
        address: str,
        *,
        stub: Any,
        credentials: Credentials,
        timeout_s: float = 60.0,
        patience_s: float = 120.0,
        on_wait: Callable[[CallError], None] | None = None,
    ) -> None:
        self._on_wait = on_wait
        self._credentials = credentials
        self._timeout_s = timeout_s
        self.patience_s = patience_s
        self.address = address
        self._channel = _channel(address, credentials)
        self._stub = stub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the channel; calls under way are cancelled."""
        await self._channel.close()

    async def call(self, method: str, request: Any, *, purpose: str = "") -> Any:
        """The response of a unary method; `CallError` once it is refused or the patience is at its end."""
        import grpc

        waits = delays(self.patience_s)
        while True:
            try:
                metadata = self.metadata(purpose=purpose)
                return await getattr(self._stub, method)(request, timeout=self._timeout_s, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                failed = self.failure(error)
            await self.pause(failed, waits)

    def stream(self, method: str, request: Any = None) -> Any:
        """The open call of a streaming method; its errors are for `failure`."""
        opened = getattr(self._stub, method)
        return opened(metadata=self.metadata()) if request is None else opened(request, metadata=self.metadata())

    def failure(self, error: Any) -> CallError:
        """What an `AioRpcError` means."""
        failed = CallError.of(error)
        if failed.code == "UNIMPLEMENTED" and not failed.reason:
            return CallError(failed.code, "another service, or an older one; give the address of the ingestion service")
        if failed.is_transient and not failed.reason:
            return CallError(failed.code, f"{self.address} is out of reach ({failed.message})")
        return failed

    async def pause(self, failed: CallError, waits: Iterator[float]) -> None:
        """Wait before another try; raises `failed` where that is in vain or the patience is at its end."""
        delay_s = next(waits, None) if failed.is_transient else None
        if delay_s is None:
            raise failed
        if self._on_wait is not None:
            self._on_wait(failed)
        await asyncio.sleep(max(delay_s, failed.retry_after_s or 0.0))

    def metadata(self, *, purpose: str = "") -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        token = self._credentials.token()
        entries = (("authorization", f"Bearer {token}" if token else ""), (_PURPOSE, quote(purpose)))
        return tuple((key, value) for key, value in entries if value)


def delays(patience_s: float) -> Iterator[float]:
    """Growing, jittered delays in seconds, until `patience_s` have gone by since the first."""
    ends = time.monotonic() + patience_s
    longest_s = 0.2
    while time.monotonic() < ends:
        yield random.uniform(longest_s / 2, longest_s)
        longest_s = min(2 * longest_s, _LONGEST_DELAY_S)


def _channel(address: str, credentials: Credentials) -> Any:
    import grpc

    target = address if address.startswith(_SCHEMES) else f"dns:///{address}"
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.service_config", _SERVICE_CONFIG),
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    if credentials.plaintext or (credentials.ca_file is None and _is_here(address)):
        return grpc.aio.insecure_channel(target, options=options)
    if (credentials.cert_file is None) != (credentials.key_file is None):
        raise SetupError("a client certificate and its key go together: give both files or none")
    tls = grpc.ssl_channel_credentials(
        root_certificates=_read(credentials.ca_file) if credentials.ca_file else None,
        private_key=_read(credentials.key_file) if credentials.key_file else None,
        certificate_chain=_read(credentials.cert_file) if credentials.cert_file else None,
    )
    return grpc.aio.secure_channel(target, tls, options=options)


def _is_here(address: str) -> bool:
    """Whether `address` is this machine itself."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition("/")[2].rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SetupError(f"{path}: cannot be read ({error.strerror}); give another file") from None
