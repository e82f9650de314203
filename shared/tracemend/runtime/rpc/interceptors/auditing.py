"""Auditing: what must be accounted for is written down before it happens, and does not happen where it cannot be.

Reading text of prompts and models asks for a purpose, percent-encoded UTF-8 in the metadata. Services that work on
text for a living are not asked: what they do stands in the ledger.
"""

from __future__ import annotations

from urllib.parse import unquote

from tracemend.kit.errors import Retry
from tracemend.kit.server_ports import AuditEntry, AuditLog
from tracemend.kit.telemetry import AUDIT_FAILURES, Telemetry
from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.chain import Proceed
from tracemend.runtime.rpc.faults import Code, Fault, exhausted
from tracemend.runtime.rpc.pace import Pace
from tracemend.runtime.rpc.permissions import Access, Role

PURPOSE = "x-tracemend-purpose"
_MIN_PURPOSE_CHARS = 8
_MAX_PURPOSE_CHARS = 500
_MAX_RESOURCE_CHARS = 256
_RESOURCE_FIELDS = ("name", "parent", "run", "plan")


class Auditing:
    """Appends an entry for the methods that `access` lists, before they run."""

    def __init__(self, log: AuditLog | None, *, access: Access, telemetry: Telemetry, reads_per_minute: int) -> None:
        self._log = log
        self._pace = Pace(reads_per_minute)
        self._access = access
        self._telemetry = telemetry

    async def __call__(self, call: Call, proceed: Proceed) -> None:
        method = call.method.full_name
        if method in self._access.reads_text and Role.SERVICE not in call.caller.roles:
            purpose = _required(_purpose(call))
            self._slow_down(call)
            await self._append(call, purpose)
        elif method in self._access.audited:
            await self._append(call, _purpose(call)[:_MAX_PURPOSE_CHARS])
        await proceed(call)

    def _slow_down(self, call: Call) -> None:
        if wait_s := self._pace.wait_s(call.caller.name):
            message = "you read text faster than people do; wait, or ask for an export"
            raise exhausted("TOO_MANY_READS", message, retry_after_s=wait_s)

    async def _append(self, call: Call, purpose: str) -> None:
        if self._log is None:
            raise Fault(Code.FAILED_PRECONDITION, "NO_AUDIT_LOG", "this service has no audit log; give it a database")
        entry = AuditEntry(
            principal=call.caller.name,
            action=call.method.full_name,
            resource=_resource(call),
            purpose=purpose,
            request_id=call.request_id,
        )
        try:
            await self._log.append(entry)
        except Retry:
            self._telemetry.count(AUDIT_FAILURES)
            raise


def _purpose(call: Call) -> str:
    return _printable(unquote(call.text(PURPOSE)).strip())


def _required(purpose: str) -> str:
    if not _MIN_PURPOSE_CHARS <= len(purpose) <= _MAX_PURPOSE_CHARS:
        raise Fault(
            Code.FAILED_PRECONDITION,
            "PURPOSE_REQUIRED",
            f"say in the metadata {PURPOSE} why you read this text: {_MIN_PURPOSE_CHARS} to {_MAX_PURPOSE_CHARS} "
            "characters, which the audit log keeps",
        )
    return purpose


def _resource(call: Call) -> str:
    """The resource name in the request; of a stream of requests, nothing is known yet."""
    for field in _RESOURCE_FIELDS:
        value = getattr(call.request, field, "")
        if isinstance(value, str) and value:
            return _printable(value[:_MAX_RESOURCE_CHARS])
    return ""


def _printable(text: str) -> str:
    """Without what could forge a line of a log, or what a database will not hold."""
    return "".join(char if char.isprintable() else "?" for char in text)
