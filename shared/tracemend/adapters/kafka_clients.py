"""Kafka clients: the one place that says how producers, consumers and administrators are set up.

Called by the bus, its consumers, the topic keeper and the dead letters. Every option that safety depends on is
written out, because defaults differ between client libraries and change between their versions. The address comes
from the bus URL, TLS and SASL from the environment (KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_MECHANISM,
KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD, KAFKA_SSL_CAFILE, KAFKA_SSL_CERTFILE, KAFKA_SSL_KEYFILE).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from tracemend.adapters.kafka_headers import tolerate
from tracemend.kit.errors import SetupError
from tracemend.kit.registry import did_you_mean
from tracemend.kit.secrets import Secret, secret_of
from tracemend.kit.urls import shown

if TYPE_CHECKING:
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.admin import KafkaAdminClient

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_OPTIONS = ("namespace", "session_s")
_SESSION_S = (6, 300)
"""What brokers allow unless they are told otherwise, up to the longest poll interval."""
_KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Where the brokers are, how to be let in, and the limits of what travels."""

    bootstrap: tuple[str, ...]
    namespace: str = ""
    """Prefix of topic and group names."""
    protocol: str = "PLAINTEXT"
    mechanism: str = ""
    username: str = ""
    password: Secret = field(default_factory=Secret)
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    max_inline_bytes: int = 256 * _KIB
    """Larger bodies lie in the store and travel as a claim check."""
    max_poll_interval_s: float = 300.0
    session_timeout_s: float = 30.0
    """A member that is silent for so long is taken for dead, and its partitions go to others."""
    request_timeout_s: float = 20.0
    delivery_timeout_s: float = 60.0
    connect_timeout_s: float = 15.0

    def named(self, name: str) -> str:
        """A topic's or group's name as the broker knows it."""
        return f"{self.namespace}.{name}" if self.namespace else name

    def unnamed(self, name: str) -> str:
        """The reverse of `named`."""
        return name.removeprefix(f"{self.namespace}.") if self.namespace else name


def settings_of(url: str, environ: Mapping[str, str] = os.environ) -> KafkaSettings:
    """What `kafka:HOST:PORT[,HOST:PORT…][?namespace=NAME&session_s=30]` and the environment say; `SetupError` for
    mistakes."""
    address, _, query = url.partition(":")[2].partition("?")
    bootstrap = tuple(part.strip() for part in address.split(",") if part.strip())
    for part in bootstrap or ("",):
        host, _, port = part.rpartition(":")
        if not host or not port.isdigit() or "@" in host:  # credentials come from the environment
            raise SetupError(
                f"bus URL '{shown(url)}': '{shown(part)}' is no HOST:PORT; write kafka:HOST:PORT[,HOST:PORT…]"
            )
    options = dict(parse_qsl(query))
    for name in options.keys() - set(_OPTIONS):
        raise SetupError(f"bus URL '{shown(url)}': unknown option '{name}'{did_you_mean(name, list(_OPTIONS))}")
    session_s = options.get("session_s", "30")
    if not session_s.isdigit() or not _SESSION_S[0] <= int(session_s) <= _SESSION_S[1]:
        low, high = _SESSION_S
        raise SetupError(f"bus URL '{shown(url)}': session_s is '{session_s}'; give whole seconds from {low} to {high}")
    return KafkaSettings(
        bootstrap=bootstrap,
        namespace=options.get("namespace", ""),
        session_timeout_s=float(session_s),
        **_security(environ),
    )


def _security(environ: Mapping[str, str]) -> dict[str, Any]:
    protocol = environ.get("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT").upper()
    mechanism = environ.get("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512").upper()
    username, password = environ.get("KAFKA_SASL_USERNAME", ""), secret_of("KAFKA_SASL_PASSWORD", environ)
    if protocol not in _PROTOCOLS:
        raise SetupError(f"KAFKA_SECURITY_PROTOCOL is '{protocol}': it must be one of {', '.join(_PROTOCOLS)}")
    if protocol.startswith("SASL") and mechanism not in _MECHANISMS:
        raise SetupError(f"KAFKA_SASL_MECHANISM is '{mechanism}': it must be one of {', '.join(_MECHANISMS)}")
    if protocol.startswith("SASL") and not (username and password):
        raise SetupError(f"KAFKA_SECURITY_PROTOCOL={protocol} needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD")
    files = {name: environ.get(f"KAFKA_SSL_{name.upper()}", "") for name in ("cafile", "certfile", "keyfile")}
    for name, file in files.items():
        if file and not os.access(file, os.R_OK):
            raise SetupError(f"KAFKA_SSL_{name.upper()}: cannot read '{file}'")
    return {
        "protocol": protocol,
        "mechanism": mechanism if protocol.startswith("SASL") else "",
        "username": username,
        "password": password,
        "ca_file": files["cafile"],
        "cert_file": files["certfile"],
        "key_file": files["keyfile"],
    }


def open_producer(settings: KafkaSettings) -> KafkaProducer:
    """A producer whose acknowledged records are on every in-sync replica, once and in order. Blocks to connect."""
    from kafka import KafkaProducer

    producer: KafkaProducer = _connect(
        settings,
        KafkaProducer,
        enable_idempotence=True,
        acks="all",
        retries=2**31 - 1,  # bounded by the delivery timeout
        max_in_flight_requests_per_connection=5,  # the most that idempotence keeps in order
        delivery_timeout_ms=_ms(settings.delivery_timeout_s),
        request_timeout_ms=_ms(settings.request_timeout_s),
        max_block_ms=_ms(settings.request_timeout_s),
        linger_ms=2,
        batch_size=256 * _KIB,
        max_request_size=1024 * _KIB,
        compression_type="zstd",
        metrics_enabled=False,  # ours are kit.telemetry's
        allow_auto_create_topics=False,
    )
    # The client keeps that option from what asks for metadata, so that brokers which make topics would make ours.
    producer._metadata.config["allow_auto_create_topics"] = False
    return producer


def open_consumer(settings: KafkaSettings, *, group: str | None) -> KafkaConsumer:
    """A consumer that commits only when it is told to; without a `group`, for reading given partitions. Blocks to
    connect."""
    from kafka import KafkaConsumer
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

    tolerate()
    return _connect(
        settings,
        KafkaConsumer,
        group_id=settings.named(group) if group is not None else None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # a group that is new, or was away for too long, skips no work
        isolation_level="read_committed",
        partition_assignment_strategy=(CooperativeStickyAssignor,),
        max_poll_interval_ms=_ms(settings.max_poll_interval_s),
        session_timeout_ms=_ms(settings.session_timeout_s),
        heartbeat_interval_ms=_ms(min(3.0, settings.session_timeout_s / 4)),
        request_timeout_ms=_ms(settings.request_timeout_s),
        max_poll_records=500,
        fetch_max_wait_ms=500,  # of a fetch that finds nothing; what arrives ends it at once
        fetch_max_bytes=16 * 1024 * _KIB,
        max_partition_fetch_bytes=1024 * _KIB,
        check_crcs=True,
        metrics_enabled=False,
        allow_auto_create_topics=False,
        metadata_max_age_ms=60_000,  # a topic that is made later, or grows, is seen within a minute
    )


def open_admin(settings: KafkaSettings) -> KafkaAdminClient:
    """A client for topics, groups and offsets. Blocks to connect."""
    from kafka.admin import KafkaAdminClient

    return _connect(settings, KafkaAdminClient, request_timeout_ms=_ms(settings.request_timeout_s))


def _connect(settings: KafkaSettings, client: Any, **options: Any) -> Any:
    from kafka.errors import KafkaConfigurationError, KafkaError

    common = {
        "bootstrap_servers": list(settings.bootstrap),
        "bootstrap_timeout_ms": _ms(settings.connect_timeout_s),
        "client_id": "tracemend",
        "security_protocol": settings.protocol,
    }
    if settings.protocol.endswith("SSL"):
        common |= {"ssl_cafile": settings.ca_file or None, "ssl_check_hostname": True}
        common |= {"ssl_certfile": settings.cert_file or None, "ssl_keyfile": settings.key_file or None}
    if settings.mechanism:
        common |= {"sasl_mechanism": settings.mechanism, "sasl_plain_username": settings.username}
        common["sasl_plain_password"] = settings.password.reveal()
    try:
        return client(**common, **options)
    except KafkaConfigurationError:
        raise
    except (KafkaError, OSError) as error:
        raise SetupError(explain(settings, error)) from None


def explain(settings: KafkaSettings, error: Exception) -> str:
    """What may be wrong where no client connects: the library shows a wrong password as a timeout."""
    where = ",".join(settings.bootstrap)
    hints = ["that the address is right and reachable"]
    if settings.protocol != "PLAINTEXT":
        hints.append("KAFKA_SSL_CAFILE, that it signed the brokers' certificate")
    if settings.mechanism:
        hints.append(f"KAFKA_SASL_USERNAME ('{settings.username}'), KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM")
    else:
        hints.append(f"KAFKA_SECURITY_PROTOCOL ({settings.protocol}), that the listener speaks it")
    return f"Kafka at {where} did not let us in ({type(error).__name__}); check {'; '.join(hints)}"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
