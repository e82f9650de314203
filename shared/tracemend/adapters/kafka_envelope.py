"""What a message looks like on Kafka: binary CloudEvents headers, and our encoded envelope as the body.

Called by the bus and the dead letters. `ce_*` headers are CloudEvents' Kafka binding; `traceparent` and `tracestate`
are W3C's; `tm_*` are ours: the content's digest and size, the claim check of a body that lies in the store, when a
message that was put back is due, whom it is for, and where a dead one came from and why. A body is never changed on
its way: what was published, put back, buried and redriven is the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeAlias

from tracemend.adapters.kafka_headers import UNREADABLE
from tracemend.kit.errors import Reject
from tracemend.kit.ports import Message
from tracemend.topics import Topic
from tracemend.wire import WireCodec

Headers: TypeAlias = dict[str, str]

PROTOBUF = "application/protobuf"
CLAIM, DIGEST, SIZE, RUN = "tm_claim", "tm_digest", "tm_bytes", "tm_run"
DUE, GROUP, ATTEMPT, ORIGIN = "tm_due", "tm_group", "tm_attempt", "tm_origin"
DEAD_REASON, DEAD_GROUP, DEAD_TIME, DEAD_VERSION = "tm_dead_reason", "tm_dead_group", "tm_dead_time", "tm_dead_version"
REDRIVE, REDRIVEN = "tm_redrive", "tm_redriven"
_TRACE = ("traceparent", "tracestate")
_OF_THE_DEAD = (DEAD_REASON, DEAD_GROUP, DEAD_TIME, DEAD_VERSION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One Kafka record: `body` is the envelope, or empty where `headers` hold a claim check."""

    topic: str
    """Without the namespace."""
    key: bytes
    body: bytes
    headers: Headers

    @property
    def claim(self) -> str:
        """The store digest of the body that lies elsewhere; empty where it is here."""
        return self.headers.get(CLAIM, "")


@cache
def version() -> str:
    """Of this software, as dead letters and headers name it."""
    return importlib.metadata.version("tracemend")


def pack(message: Message, codec: WireCodec) -> Parcel:
    """The record for `message`; `Reject` for what cannot be encoded."""
    body = codec.encode_message(message)
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(message.record.id),
        "ce_type": f"tracemend.api.records.v1.{type(message.record).__name__}",
        "ce_source": f"tracemend/{version()}",
        "ce_time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "content-type": PROTOBUF,
        DIGEST: hashlib.sha256(body).hexdigest(),
        SIZE: str(len(body)),
        RUN: message.context.run,
    }
    headers |= {name: message.trace[name] for name in _TRACE if name in message.trace}
    key = str(getattr(message.record, message.topic.key)).encode()
    return Parcel(topic=message.topic.name, key=key, body=body, headers=headers)


def unpack(parcel: Parcel, topic: Topic, codec: WireCodec) -> Message:
    """The message that travelled as `parcel`, on `topic` or on a topic beside it; `Reject` if it is none."""
    if UNREADABLE in parcel.headers:
        raise Reject(
            parcel.headers[UNREADABLE], f"{len(parcel.body)} bytes of a record that Kafka's client cannot read"
        )
    expected = parcel.headers.get(DIGEST)
    if expected is not None and hashlib.sha256(parcel.body).hexdigest() != expected:
        raise Reject("wrong_digest", f"{len(parcel.body)} bytes are not what their headers say")
    trace = {name: parcel.headers[name] for name in _TRACE if name in parcel.headers}
    message = codec.decode_message(parcel.body, topic)
    return replace(message, trace=trace) if trace else message


def claimed(parcel: Parcel, digest: str) -> Parcel:
    """`parcel` with its body in the store under `digest`."""
    return replace(parcel, body=b"", headers={**parcel.headers, CLAIM: digest})


def put_back(parcel: Parcel, topic: str, *, group: str, delay_s: float, origin: str) -> Parcel:
    """`parcel` for the delay topic `topic`: due after `delay_s`, for the group that put it back alone."""
    headers = {
        **parcel.headers,
        DUE: f"{time.time() + delay_s:.3f}",
        GROUP: group,
        ATTEMPT: str(number_in(parcel.headers, ATTEMPT) + 1),
        ORIGIN: parcel.headers.get(ORIGIN, origin),
    }
    return replace(parcel, topic=topic, headers=headers)


def buried(parcel: Parcel, topic: str, *, group: str, reason: str, origin: str) -> Parcel:
    """`parcel` for the dead-letter topic `topic`, with why and where from."""
    headers = {
        **{name: value for name, value in parcel.headers.items() if name != REDRIVEN},  # it would pass for a marker
        DEAD_REASON: reason,
        DEAD_GROUP: group,
        DEAD_TIME: f"{time.time():.3f}",
        DEAD_VERSION: version(),
        ORIGIN: parcel.headers.get(ORIGIN, origin),
    }
    return replace(parcel, topic=topic, headers=headers)


def redriven(parcel: Parcel, topic: str, *, redrive: str) -> Parcel:
    """A dead letter for the topic that it came from, for the group that gave it up."""
    headers = {k: v for k, v in parcel.headers.items() if k not in _OF_THE_DEAD and k not in (DUE, ATTEMPT)}
    if parcel.headers.get(DEAD_GROUP):
        headers[GROUP] = parcel.headers[DEAD_GROUP]
    return replace(parcel, topic=topic, headers={**headers, REDRIVE: redrive})


def headers_of(pairs: Iterable[tuple[str, bytes | None]]) -> Headers:
    """A record's headers as text; a name that comes twice counts once, bytes that are no UTF-8 are escaped."""
    return {name: (value or b"").decode("utf-8", "backslashreplace") for name, value in pairs}


def pairs_of(headers: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Headers as the client takes them."""
    return [(name, value.encode()) for name, value in headers.items()]


def number_in(headers: Mapping[str, str], name: str) -> int:
    """A whole number, 0 where there is none: headers may come from anybody."""
    value = headers.get(name, "")
    return int(value) if value.isdecimal() and len(value) < 19 else 0


def time_in(headers: Mapping[str, str], name: str) -> float:
    """A Unix time, 0 where there is none or it is none."""
    try:
        return max(0.0, min(float(headers.get(name, "0")), 4e9))
    except ValueError:
        return 0.0


def parcel_of(record: Any, topic: str) -> Parcel:
    """A consumed record of the client library as a parcel of `topic`."""
    return Parcel(topic=topic, key=record.key or b"", body=record.value or b"", headers=headers_of(record.headers))
