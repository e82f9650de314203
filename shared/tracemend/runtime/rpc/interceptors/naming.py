"""Request id: the name that logs, traces, audit entries and the caller know a call by."""

from __future__ import annotations

import uuid

import structlog

from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.chain import Proceed
from tracemend.runtime.rpc.validators import REQUEST_ID

HEADER = "x-request-id"


class Naming:
    """Takes the caller's id where it is harmless to log, else makes one; it is told back in the trailing metadata."""

    async def __call__(self, call: Call, proceed: Proceed) -> None:
        given = call.text(HEADER)
        call.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        call.trailers[HEADER] = call.request_id
        structlog.contextvars.bind_contextvars(request=call.request_id)
        await proceed(call)
