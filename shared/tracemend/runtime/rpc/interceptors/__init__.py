"""The interceptors, one file each, and the order that they stand in.

Whoever is unknown learns nothing but that; whoever may not do a thing is told so before a byte of the request is
decoded; a repetition is answered before there is an effect. Tests hold the order.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracemend.kit.server_ports import AuditLog, Leases, Requests
from tracemend.kit.telemetry import Telemetry
from tracemend.runtime.rpc.chain import Interceptor
from tracemend.runtime.rpc.interceptors.auditing import Auditing
from tracemend.runtime.rpc.interceptors.authentication import Authentication
from tracemend.runtime.rpc.interceptors.authorisation import Authorisation
from tracemend.runtime.rpc.interceptors.deadline import Deadline
from tracemend.runtime.rpc.interceptors.idempotency import Idempotency
from tracemend.runtime.rpc.interceptors.metrics import Metrics
from tracemend.runtime.rpc.interceptors.naming import Naming
from tracemend.runtime.rpc.interceptors.tracing import Tracing
from tracemend.runtime.rpc.interceptors.validation import Validation
from tracemend.runtime.rpc.permissions import Access
from tracemend.runtime.rpc.settings import RpcSettings
from tracemend.runtime.rpc.tokens import open_tokens
from tracemend.runtime.rpc.validators import Validators


def standard(
    settings: RpcSettings,
    *,
    access: Access,
    validators: Validators,
    requests: Requests | None,
    audit: AuditLog | None,
    telemetry: Telemetry,
    leases: Leases | None = None,
) -> Sequence[Interceptor]:
    """Every call's interceptors, the outermost first."""
    return (
        Naming(),
        Tracing(telemetry),
        Metrics(telemetry),
        Authentication(open_tokens(settings), peer_names=settings.peer_names, anonymous=settings.anonymous_roles),
        Authorisation(access.roles),
        Deadline(default_s=settings.default_deadline_s, max_s=settings.max_deadline_s),
        Validation(validators, max_message_bytes=settings.max_message_bytes),
        Auditing(audit, access=access, telemetry=telemetry, reads_per_minute=settings.text_reads_per_minute),
        Idempotency(requests, leases),
    )
