"""What a listener is told, and the plaintext one that answers nothing but health checks.

Kubernetes probes speak no TLS, so a server with TLS answers them on a port of its own, where nothing else can be asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tracemend.kit.errors import SetupError
from tracemend.runtime.rpc.settings import RpcSettings

_ROOM = 2
"""The transport takes messages of twice the limit, so that ours can answer with what to do about it."""
_MAX_METADATA_BYTES = 32 * 1024


def server_options(settings: RpcSettings) -> tuple[tuple[str, int], ...]:
    """gRPC's options for a server, every one that matters stated."""
    return (
        ("grpc.max_receive_message_length", _ROOM * settings.max_message_bytes),
        ("grpc.max_send_message_length", _ROOM * settings.max_message_bytes),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.keepalive_time_ms", _ms(settings.keepalive_s)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _ms(settings.min_ping_interval_s)),
        ("grpc.max_connection_age_ms", _ms(settings.max_connection_age_s)),
        ("grpc.max_connection_age_grace_ms", _ms(settings.max_connection_age_grace_s)),
        ("grpc.so_reuseport", 0),  # a second process on the port must fail, not share it
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthListener:
    """A running health-only server."""

    server: Any
    port: int

    async def close(self) -> None:
        await self.server.stop(0)


async def serve_health(address: str, servicer: Any) -> HealthListener:
    """Serve `servicer`, the health service, on `address` without TLS."""
    from grpc import aio
    from grpc_health.v1 import health_pb2_grpc

    server = aio.server(options=(("grpc.so_reuseport", 0),), maximum_concurrent_rpcs=64)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise SetupError(f"health_listen: cannot listen on {address}: it is in use or not ours") from None
    await server.start()
    return HealthListener(server=server, port=port)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
