"""What a server answered instead of a result, read back from its status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracemend.kit.errors import TracemendError

_DETAILS_KEY = "grpc-status-details-bin"
_TRANSPORT = frozenset({"UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED"})
"""Codes that a cut connection is told by; with a reason of the server they mean what they say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """The details of a status."""

    reason: str = ""
    violations: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None


class CallError(TracemendError):
    """A call that did not succeed.

    `code` is gRPC's name of the kind (`NOT_FOUND`), `reason` the server's constant to go by, empty where the network
    and not the server ended the call; `violations` say field by field what is wrong with the request.
    """

    def __init__(self, code: str, message: str, told: _Told | None = None) -> None:
        told = told or _Told()
        fields = "".join(f"; {name} {wrong}" for name, wrong in told.violations.items())
        super().__init__(f"{message or code}{fields}")
        self.code = code
        self.message = message
        self.reason = told.reason
        self.violations = told.violations
        self.metadata = told.metadata
        self.retry_after_s = told.retry_after_s

    @property
    def is_transient(self) -> bool:
        """Whether the same call may succeed later."""
        if self.reason:
            return self.code == "UNAVAILABLE" or self.retry_after_s is not None
        return self.code in _TRANSPORT

    @classmethod
    def of(cls, error: Any) -> CallError:
        """From a `grpc.aio.AioRpcError`."""
        content = dict(error.trailing_metadata() or ()).get(_DETAILS_KEY, b"")
        return cls(error.code().name, error.details() or "", _read(content))


def _read(content: bytes) -> _Told:
    from google.protobuf.message import DecodeError
    from google.rpc import error_details_pb2, status_pb2

    try:
        details = status_pb2.Status.FromString(content).details
    except DecodeError:
        return _Told()
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    found = {type(message): any(detail.Unpack(message) for detail in details) for message in (info, bad, retry)}
    return _Told(
        reason=info.reason,
        violations={item.field: item.description for item in bad.field_violations},
        metadata=dict(info.metadata),
        retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9 if found[type(retry)] else None,
    )
