"""Validation: requests are decoded and checked, each by the validators of its type."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import DecodeError

from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.chain import Proceed
from tracemend.runtime.rpc.faults import Code, Fault, exhausted, violated
from tracemend.runtime.rpc.validators import REQUEST_ID, Validators


class Validation:
    """Sets `call.request`, or `call.requests` for a stream, whose messages are checked one by one as they are read."""

    def __init__(self, validators: Validators, *, max_message_bytes: int) -> None:
        self._validators = validators
        self._max_message_bytes = max_message_bytes

    async def __call__(self, call: Call, proceed: Proceed) -> None:
        call.requests = self._checked(call)
        if not call.method.streams_requests:
            call.request = await anext(call.requests)
        await proceed(call)

    async def _checked(self, call: Call) -> AsyncIterator[Any]:
        async for content in call.received:
            yield self._read(call.method.request, content)

    def _read(self, message_type: Any, content: bytes) -> Any:
        if len(content) > self._max_message_bytes:
            raise exhausted(
                "MESSAGE_TOO_LARGE",
                f"a message may have {self._max_message_bytes} bytes; split it, or send fewer rows in each",
                num_bytes=str(len(content)),
            )
        try:
            message = message_type.FromString(content)
        except DecodeError:
            name = message_type.DESCRIPTOR.full_name
            raise Fault(Code.INVALID_ARGUMENT, "MALFORMED", f"the bytes are no {name}") from None
        if wrong := self._violations(message):
            raise violated(wrong)
        return message

    def _violations(self, message: Any) -> dict[str, str]:
        wrong: dict[str, str] = {}
        fields = message.DESCRIPTOR.fields_by_name
        if "request_id" in fields and message.request_id and not REQUEST_ID.fullmatch(message.request_id):
            wrong["request_id"] = "must be 1 to 128 letters, digits, '.', '_', ':' or '-'; a UUID is best"
        if "page_size" in fields and message.page_size < 0:
            wrong["page_size"] = "must not be negative; 0 means the default"
        validator = self._validators.get(message.DESCRIPTOR.full_name)
        for field, what in validator(message) if validator is not None else ():
            wrong.setdefault(field, what)
        return wrong
