"""A service with methods of all four arities, made without a proto file, and fakes of what a server keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tracemend.kit.errors import Retry
from tracemend.kit.server_ports import AuditEntry, ChainedEntry, Remembered
from tracemend.runtime.rpc.call import Call, caller, remaining_s, request_id, trace
from tracemend.runtime.rpc.methods import methods_of
from tracemend.runtime.rpc.permissions import Access, Role
from tracemend.runtime.rpc.server import Registration
from tracemend.runtime.rpc.validators import check, required

_PACKAGE = "tracemend.testing.v1"
_F = descriptor_pb2.FieldDescriptorProto
_METHODS = {
    "GetThing": (False, False),
    "MakeThing": (False, False),
    "WatchThing": (False, True),
    "CountThings": (True, False),
    "EchoThings": (True, True),
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="tests/things.proto", package=_PACKAGE, syntax="proto3")
    fields = {"name": _F.TYPE_STRING, "request_id": _F.TYPE_STRING, "number": _F.TYPE_INT64}
    fields |= {"validate_only": _F.TYPE_BOOL, "page_size": _F.TYPE_INT32, "page_token": _F.TYPE_STRING}
    fields["content"] = _F.TYPE_BYTES
    message = file.message_type.add(name="Thing")
    for number, (name, kind) in enumerate(fields.items(), 1):
        message.field.add(name=name, number=number, type=kind, label=_F.LABEL_OPTIONAL)
    service = file.service.add(name="ThingService")
    for name, (streams_requests, streams_responses) in _METHODS.items():
        service.method.add(
            name=name,
            input_type=f".{_PACKAGE}.Thing",
            output_type=f".{_PACKAGE}.Thing",
            client_streaming=streams_requests,
            server_streaming=streams_responses,
        )
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())
SERVICE = _pool.FindServiceByName(f"{_PACKAGE}.ThingService")
Thing: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.Thing"))
METHODS = {method.name: method for method in methods_of(SERVICE)}
ACCESS = Access(roles={method.full_name: frozenset({Role.SUBMITTER, Role.SERVICE}) for method in METHODS.values()})


class ThingServicer:
    """Answers with what it knows of the call; `error` is raised instead, `gate` is waited for first."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.num_made = 0
        self.num_ended = 0
        self.told: list[tuple[str, frozenset[Role], str, float | None]] = []
        self.traces: list[Mapping[str, str]] = []

    async def GetThing(self, request: Any, call: Call) -> Any:  # noqa: N802 - rpc names
        await self._begin()
        return Thing(name=request.name)

    async def MakeThing(self, request: Any, call: Call) -> Any:  # noqa: N802
        await self._begin()
        self.num_made += 1
        return Thing(name=request.name, number=self.num_made)

    async def WatchThing(self, request: Any, call: Call) -> AsyncIterator[Any]:  # noqa: N802
        await self._begin()
        try:
            while True:
                yield Thing(name=request.name)
                await asyncio.sleep(0.01)
        finally:
            self.num_ended += 1

    async def CountThings(self, requests: AsyncIterator[Any], call: Call) -> Any:  # noqa: N802
        await self._begin()
        return Thing(number=len([request async for request in requests]))

    async def EchoThings(self, requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:  # noqa: N802
        await self._begin()
        async for request in requests:
            yield request

    async def _begin(self) -> None:
        self.told.append((caller().name, caller().roles, request_id(), remaining_s()))
        self.traces.append(trace())
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error


def registration(servicer: ThingServicer) -> Registration:
    """The service, whose things must have a name unless they are streamed for counting."""
    return Registration(service=SERVICE, servicer=servicer, validators={f"{_PACKAGE}.Thing": check(required("name"))})


class FakeRequests:
    """`server_ports.Requests` in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], Remembered] = {}

    async def recall(self, principal: str, method: str, request_id: str) -> Remembered | None:
        return self.kept.get((principal, method, request_id))

    async def remember(
        self, principal: str, method: str, request_id: str, *, digest: str, response: bytes
    ) -> Remembered:
        new = Remembered(digest=digest, response=response)
        return self.kept.setdefault((principal, method, request_id), new)

    async def expire(self, *, before_s: float) -> int:
        return 0


class FakeAudit:
    """The part of `server_ports.AuditLog` that a server writes to; `is_down` refuses."""

    def __init__(self) -> None:
        self.appended: list[AuditEntry] = []
        self.is_down = False

    async def append(self, entry: AuditEntry) -> ChainedEntry:
        if self.is_down:
            raise Retry("database_gone", after_s=3.0)
        self.appended.append(entry)
        return ChainedEntry(number=len(self.appended), time_s=0.0, entry=entry, previous="", digest="")

    async def entries(self, *, after: int = 0, limit: int = 100) -> list[ChainedEntry]:
        raise AssertionError("servers only append")

    async def head(self) -> Any:
        raise AssertionError("servers only append")

    async def verify(self, *, anchor: Any = None) -> int | None:
        raise AssertionError("servers only append")
