"""What a channel is told: the service config (gRFC A6, A9) and gRPC's options, every one that matters stated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tracemend.runtime.rpc.methods import methods_of
from tracemend.runtime.rpc.settings import ChannelSettings

_ROOM = 2
"""As on the server: the limit that answers with words is the server's own."""


def channel_options(settings: ChannelSettings, services: Sequence[Any]) -> list[tuple[str, Any]]:
    """Options for `grpc.aio` channels to `services` (protobuf service descriptors)."""
    options: list[tuple[str, Any]] = [
        ("grpc.service_config", json.dumps(service_config(settings, services))),
        ("grpc.enable_retries", 1),
        ("grpc.max_receive_message_length", _ROOM * settings.max_message_bytes),
        ("grpc.max_send_message_length", _ROOM * settings.max_message_bytes),
        ("grpc.keepalive_time_ms", int(settings.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.http2.max_pings_without_data", 2),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 10_000),
        ("grpc.dns_min_time_between_resolutions_ms", 5_000),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if settings.tls is not None and settings.tls.server_name:
        options.append(("grpc.ssl_target_name_override", settings.tls.server_name))
    return options


def service_config(settings: ChannelSettings, services: Sequence[Any]) -> dict[str, Any]:
    """Round robin over healthy replicas, and retries with jitter of the methods that may be repeated."""
    names = [
        {"service": method.service, "method": method.name}
        for service in services
        for method in methods_of(service)
        if method.is_repeatable
    ]
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
        "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.2},
    }
    if names and settings.max_attempts > 1:
        retry = {
            "maxAttempts": settings.max_attempts,
            "initialBackoff": "0.2s",
            "maxBackoff": "5s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config["methodConfig"] = [{"name": names, "retryPolicy": retry}]
    return config
