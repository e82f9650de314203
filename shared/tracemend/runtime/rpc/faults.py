"""What a call answers when it cannot do what was asked: one `Fault`, told as a `google.rpc.Status` (AIP-193).

Servicers raise `Fault` (or what the functions here make) and let the errors of `kit.errors` pass; the chain turns all
of them into statuses by `fault_of`, and clients read them back by `read_fault`. Invariants: every status carries an
`ErrorInfo`; no message holds a word that a prompt or a model wrote: what foreign exceptions say is dropped, because
they quote what they choke on. Trailing metadata has room for 8 KiB, so what is told is cut to fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from tracemend.kit.errors import CorruptBlob, Reject, Retry, SetupError, TracemendError
from tracemend.kit.results import CorruptResult
from tracemend.kit.server_ports import Conflict

DOMAIN = "tracemend.dev"
DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata in which gRPC carries the `google.rpc.Status`."""
_MAX_MESSAGE_CHARS = 1024
_MAX_VIOLATIONS = 16
_MAX_ITEM_CHARS = 160
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Code(StrEnum):
    """gRPC's status codes by name, so that nothing needs to import grpc to name one."""

    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class Fault(TracemendError):
    """The end of a call that did not succeed.

    `reason` is a constant in UPPER_SNAKE_CASE that programs go by; `message` tells a person what to change, and what
    varies in it stands in `metadata` as well. `violations` maps fields (or, without a bad field, subjects) to what is
    wrong with them; `retry_after_s` asks for patience.
    """

    def __init__(
        self,
        code: Code | str,
        reason: str,
        message: str,
        *,
        violations: Mapping[str, str] = _NOTHING,
        metadata: Mapping[str, str] = _NOTHING,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.code = Code(code)
        self.reason = reason
        self.message = message[:_MAX_MESSAGE_CHARS]
        self.violations = _cut(violations)
        self.metadata = _cut(metadata)
        self.retry_after_s = retry_after_s

    def to_status(self) -> Any:
        """The `google.rpc.Status` that says this."""
        from google.rpc import code_pb2, error_details_pb2, status_pb2

        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        status = status_pb2.Status(code=code_pb2.Code.Value(self.code.value), message=self.message)
        status.details.add().Pack(info)
        if self.violations:
            status.details.add().Pack(_violations(self.code, self.reason, self.violations))
        if self.retry_after_s is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromNanoseconds(int(self.retry_after_s * 1e9))
            status.details.add().Pack(retry)
        return status


def invalid(**fields: str) -> Fault:
    """INVALID_ARGUMENT: each keyword is a field of the request, each value what is wrong with it."""
    return violated(fields)


def violated(fields: Mapping[str, str]) -> Fault:
    """`invalid` for field paths that are no Python names, such as `prompts[3].text`."""
    names = ", ".join(list(fields)[:_MAX_VIOLATIONS])
    return Fault(Code.INVALID_ARGUMENT, "INVALID_FIELDS", f"the request has invalid fields: {names}", violations=fields)


def not_found(name: str) -> Fault:
    """NOT_FOUND for the resource called `name`."""
    return Fault(Code.NOT_FOUND, "RESOURCE_NOT_FOUND", f"there is no {name}", metadata={"name": name})


def conflict(name: str, message: str, *, reason: str = "RESOURCE_CHANGED") -> Fault:
    """ABORTED: the resource is no longer what the caller took it for (AIP-154); reading it again helps."""
    return Fault(Code.ABORTED, reason, message, metadata={"name": name})


def precondition(reason: str, message: str, **metadata: str) -> Fault:
    """FAILED_PRECONDITION: the state of things forbids it, and trying again changes nothing."""
    return Fault(Code.FAILED_PRECONDITION, reason, message, metadata=metadata)


def denied(reason: str, message: str, **metadata: str) -> Fault:
    """PERMISSION_DENIED: the caller is known and may not do this."""
    return Fault(Code.PERMISSION_DENIED, reason, message, metadata=metadata)


def exhausted(reason: str, message: str, *, retry_after_s: float | None = None, **metadata: str) -> Fault:
    """RESOURCE_EXHAUSTED: too much, or too much at once; `retry_after_s` where waiting helps."""
    return Fault(Code.RESOURCE_EXHAUSTED, reason, message, metadata=metadata, retry_after_s=retry_after_s)


def unavailable(reason: str, message: str, *, retry_after_s: float = 1.0) -> Fault:
    """UNAVAILABLE: the same call may succeed elsewhere or later."""
    return Fault(Code.UNAVAILABLE, reason, message, retry_after_s=retry_after_s)


def fault_of(error: BaseException) -> Fault:
    """`error` as what a caller is told: what we raised on purpose by its own words, anything else by none."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, Retry):
        return unavailable(
            reason_code(error.reason), "a part that this needs is busy; try again", retry_after_s=error.after_s
        )
    if isinstance(error, Reject):
        return Fault(Code.INVALID_ARGUMENT, reason_code(error.reason), str(error), metadata={"reason": error.reason})
    if isinstance(error, SetupError):
        return precondition("SETUP", str(error))
    if isinstance(error, Conflict):
        return Fault(Code.ABORTED, "CONFLICT", str(error))
    if isinstance(error, (CorruptBlob, CorruptResult)):
        return Fault(Code.DATA_LOSS, "CORRUPT", "something that was stored is damaged; the service's log tells what")
    if isinstance(error, TimeoutError):
        return unavailable("TIMEOUT", "a part that this needs did not answer in time; try again")
    if isinstance(error, ValueError):
        return Fault(Code.INVALID_ARGUMENT, "INVALID_VALUE", "the request holds a value that cannot be used")
    return Fault(Code.INTERNAL, "BUG", "the service failed; its log tells where, by the request id")


def read_fault(error: Any) -> Fault:
    """What a server said in `error`, a `grpc.aio.AioRpcError`; for callers of other services."""
    from google.rpc import error_details_pb2

    code, message = Code(error.code().name), error.details() or ""
    content = dict(error.trailing_metadata() or ()).get(DETAILS_KEY, b"")
    info, violations, retry_after_s = error_details_pb2.ErrorInfo(reason=code.value), {}, None
    for detail in _details(content):
        found = _unpack(detail)
        if isinstance(found, error_details_pb2.ErrorInfo):
            info = found
        elif isinstance(found, error_details_pb2.BadRequest):
            violations = {item.field: item.description for item in found.field_violations}
        elif isinstance(found, error_details_pb2.RetryInfo):
            retry_after_s = found.retry_delay.ToNanoseconds() / 1e9
    return Fault(
        code, info.reason, message, violations=violations, metadata=dict(info.metadata), retry_after_s=retry_after_s
    )


def _details(content: bytes) -> Any:
    """Of a status; none of what is no status, such as what a proxy on the way made of it."""
    from google.protobuf.message import DecodeError
    from google.rpc import status_pb2

    try:
        return status_pb2.Status.FromString(content).details
    except DecodeError:
        return ()


def _unpack(detail: Any) -> Any:
    from google.rpc import error_details_pb2

    for known in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
        message = known()
        if detail.Unpack(message):
            return message
    return None


def reason_code(reason: str) -> str:
    """A reason of ours (`not_utf8`, "lost connection") as the constant that AIP-193 wants."""
    cleaned = "".join(char if char.isascii() and char.isalnum() else "_" for char in reason).strip("_").upper()
    return cleaned[:63] or "UNSPECIFIED"


def _violations(code: Code, reason: str, violations: Mapping[str, str]) -> Any:
    from google.rpc import error_details_pb2

    if code is Code.RESOURCE_EXHAUSTED:
        quota = error_details_pb2.QuotaFailure()
        for subject, description in violations.items():
            quota.violations.add(subject=subject, description=description)
        return quota
    if code is Code.FAILED_PRECONDITION:
        failure = error_details_pb2.PreconditionFailure()
        for subject, description in violations.items():
            failure.violations.add(type=reason, subject=subject, description=description)
        return failure
    bad = error_details_pb2.BadRequest()
    for field, description in violations.items():
        bad.field_violations.add(field=field, description=description)
    return bad


def _cut(items: Mapping[str, str]) -> dict[str, str]:
    return {key[:_MAX_ITEM_CHARS]: value[:_MAX_ITEM_CHARS] for key, value in list(items.items())[:_MAX_VIOLATIONS]}
