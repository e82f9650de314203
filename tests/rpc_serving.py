"""A servicer of ours behind a real server with the standard chain, for callers of a chosen role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.rpc_client import call, fault, plain_channel
from tests.rpc_service import FakeAudit, FakeRequests

from tracemend.kit.server_ports import Requests
from tracemend.runtime.rpc.faults import Fault
from tracemend.runtime.rpc.methods import Method, methods_of
from tracemend.runtime.rpc.permissions import Role
from tracemend.runtime.rpc.server import Registration, RpcServer
from tracemend.runtime.rpc.settings import RpcSettings


@dataclass
class Client:
    """Calls the methods of one service by name."""

    channel: Any
    methods: Mapping[str, Method]
    audit: FakeAudit

    async def call(self, name: str, request: Any, **options: Any) -> Any:
        return await call(self.channel, self.methods[name], request, **options)

    async def fault(self, name: str, request: Any, **options: Any) -> Fault:
        return await fault(self.channel, self.methods[name], request, **options)


@asynccontextmanager
async def serving(
    registration: Registration, *, role: Role = Role.SERVICE, requests: Requests | None = None
) -> AsyncIterator[Client]:
    """A client of the service."""
    audit = FakeAudit()
    settings = RpcSettings(listen="127.0.0.1:0", anonymous_roles=frozenset({role}))
    server = RpcServer(settings, [registration], requests=requests or FakeRequests(), audit=audit)
    await server.start()
    async with plain_channel(server.port) as channel:
        yield Client(channel, {method.name: method for method in methods_of(registration.service)}, audit)
    await server.drain(0)
