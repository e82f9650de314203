"""Records as protobuf messages and back, for servicers whose requests and replies hold whole records.

Copies through the wire's own codec, so that what travels by gRPC is read exactly like what travels by Kafka: an unset
enum or field is refused (`Reject`, which callers see as INVALID_ARGUMENT), never guessed.
"""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from tracemend.api.records.v1 import records_pb2
from tracemend.wire import WireCodec

R = TypeVar("R")
_CODEC = WireCodec()


def record_of(record_type: type[R], message: Any) -> R:
    """The record that `message`, of the same name, holds."""
    record: R = _CODEC.decode(record_type, message.SerializeToString())
    return record


def message_of(record: Any) -> Any:
    """The message of the same name as the record's class."""
    return getattr(records_pb2, type(record).__name__).FromString(_CODEC.encode(record))


def timestamp(seconds: float) -> Any:
    """A protobuf `Timestamp`, to the microsecond; None for 0, which stands for no time."""
    if not seconds:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(int(seconds * 1e6))
    return stamp
