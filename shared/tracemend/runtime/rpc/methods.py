"""What a method is, read from its descriptor: arity, message classes, whether it has effects.

The server builds its handlers from these, the channel its retries, tests their exhaustive tables. A method without
effects is told by its verb (AIP-131, 132, 136), which is one of `Get`, `List`, `Describe`, `Watch`, `Trace` and
`Download`, or by the proto option `idempotency_level = NO_SIDE_EFFECTS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from google.protobuf import descriptor_pb2, message_factory

_READING_VERBS = frozenset({"Get", "List", "Describe", "Watch", "Trace", "Download"})
_Options = descriptor_pb2.MethodOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method of a service."""

    service: str
    """Full name of the service, such as `tracemend.api.judge.v1.JudgeService`."""
    name: str
    request: Any
    """The message class that it takes."""
    response: Any
    streams_requests: bool
    streams_responses: bool
    is_reading: bool
    """Whether it changes nothing."""
    has_request_id: bool
    """Whether its request names itself, so that a repetition can be told from a second wish (AIP-155)."""

    @classmethod
    def of(cls, descriptor: Any) -> Self:
        """From a protobuf `MethodDescriptor`."""
        request = message_factory.GetMessageClass(descriptor.input_type)
        verb = re.match(r"[A-Z][a-z]*", descriptor.name)
        level = descriptor.GetOptions().idempotency_level
        return cls(
            service=descriptor.containing_service.full_name,
            name=descriptor.name,
            request=request,
            response=message_factory.GetMessageClass(descriptor.output_type),
            streams_requests=descriptor.client_streaming,
            streams_responses=descriptor.server_streaming,
            is_reading=level == _Options.NO_SIDE_EFFECTS or (verb is not None and verb.group() in _READING_VERBS),
            has_request_id="request_id" in descriptor.input_type.fields_by_name,
        )

    @property
    def full_name(self) -> str:
        """`package.Service/Method`: the key of permission tables and the name of spans."""
        return f"{self.service}/{self.name}"

    @property
    def path(self) -> str:
        """The HTTP/2 path that gRPC calls it by."""
        return f"/{self.full_name}"

    @property
    def is_unary(self) -> bool:
        """Whether one request gives one response."""
        return not self.streams_requests and not self.streams_responses

    @property
    def is_repeatable(self) -> bool:
        """Whether a caller that heard nothing may call again: methods with lasting effects, which have request ids,
        answer a named call once."""
        return self.is_reading or self.is_unary


def methods_of(service: Any) -> Iterator[Method]:
    """The methods of a protobuf `ServiceDescriptor`, in its order."""
    return (Method.of(descriptor) for descriptor in service.methods)
