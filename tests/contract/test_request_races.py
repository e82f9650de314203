"""One request at two replicas at the same moment, over every database: one effect, and one answer for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.contract.ledgers import URLS
from tests.rpc_client import call, plain_channel
from tests.rpc_service import ACCESS, METHODS, Thing, ThingServicer, registration

from tracemend.adapters.sql_server import SqlServerTables
from tracemend.kit.errors import SetupError
from tracemend.runtime.rpc.faults import Code, Fault
from tracemend.runtime.rpc.permissions import Role
from tracemend.runtime.rpc.server import RpcServer
from tracemend.runtime.rpc.settings import RpcSettings

WISH = Thing(name="a", request_id="one")


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.servers) if name != "sqlite" else name for name in URLS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return URLS[request.param](tmp_path)


@asynccontextmanager
async def replica(url: str, servicer: ThingServicer) -> AsyncIterator[Any]:
    """A channel to a server with connections of its own."""
    tables = SqlServerTables(url)
    settings = RpcSettings(listen="127.0.0.1:0", anonymous_roles=frozenset({Role.SUBMITTER}))
    server = RpcServer(
        settings, [registration(servicer)], requests=tables.requests, leases=tables.leases, access=ACCESS
    )
    await server.start()
    try:
        async with plain_channel(server.port) as channel:
            yield channel
    finally:
        await server.drain(0)
        await tables.aclose()


async def test_two_replicas_that_get_one_request_together_have_one_effect(url: str) -> None:
    servicer = ThingServicer()
    servicer.gate = asyncio.Event()
    async with replica(url, servicer) as one, replica(url, servicer) as other:
        calls = [asyncio.create_task(call(channel, METHODS["MakeThing"], WISH)) for channel in (one, other)]
        await asyncio.sleep(1.0)
        assert len(servicer.told) == 1, "the other waits for its turn"
        servicer.gate.set()
        assert [answer.number for answer in await asyncio.gather(*calls)] == [1, 1]
    assert servicer.num_made == 1


async def test_a_replica_that_fails_leaves_the_request_to_the_other(url: str) -> None:
    failing, working = ThingServicer(), ThingServicer()
    failing.gate, failing.error = asyncio.Event(), SetupError("no")
    async with replica(url, failing) as one, replica(url, working) as other:
        first = asyncio.create_task(call(one, METHODS["MakeThing"], WISH))
        await asyncio.sleep(1.0)
        second = asyncio.create_task(call(other, METHODS["MakeThing"], WISH))
        await asyncio.sleep(1.0)
        assert (len(failing.told), len(working.told)) == (1, 0)
        failing.gate.set()
        assert (await second).number == 1
        with pytest.raises(Fault) as refused:
            await first
        assert refused.value.code is Code.FAILED_PRECONDITION
