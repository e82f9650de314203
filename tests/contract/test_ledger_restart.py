"""PostgreSQL restarts under the ledger: calls say `Retry`, and the same calls, made again, go on.

The server is one of its own, from the tool that TRACEMEND_SERVERS_CTL names, with a state folder of its own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from tests.contract.ledgers import address, outcome, prompt
from tests.needs import needs_server

from tracemend.adapters.sql_ledger import SqlLedger
from tracemend.adapters.sql_server import SqlServerTables
from tracemend.kit.errors import Retry
from tracemend.kit.ports import Cost
from tracemend.records import Unit

pytestmark = [pytest.mark.servers, pytest.mark.slow]

T = TypeVar("T")
BATCH = 20


class Server:
    """A PostgreSQL server that may be killed."""

    def __init__(self, tool: str, state: Path) -> None:
        self._tool = tool
        self._environment = os.environ | {"INFRA_STATE": str(state)}

    def do(self, *verb: str) -> str:
        done = subprocess.run([self._tool, *verb], env=self._environment, capture_output=True, text=True, check=True)
        return done.stdout

    @property
    def url(self) -> str:
        lines = [line for line in self.do("env").splitlines() if "POSTGRES_DSN=" in line]
        return lines[0].split("=", 1)[1].strip("'\"")


@pytest.fixture
def server() -> Iterator[Server]:
    tool = needs_server("TRACEMEND_SERVERS_CTL")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the server runs under an account of its own
        server = Server(tool, Path(folder) / "servers")
        try:
            server.do("up", "postgres")
            yield server
        finally:
            server.do("down", "--wipe")


async def test_a_restart_loses_and_doubles_nothing(server: Server) -> None:
    num_batches = 60
    ledger = SqlLedger(server.url)
    prompts = [prompt(row) for row in range(num_batches * BATCH)]
    await ledger.open_run("run", plan="p")
    units = [Unit(arm="a", prompt=each.prompt) for each in prompts]
    await ledger.admit("run", prompts=prompts, refused=[], units=units)
    num_retries = 0

    async def insist(call: Callable[[], Awaitable[T]]) -> T:
        nonlocal num_retries
        while True:
            try:
                return await call()
            except Retry:
                num_retries += 1
                await asyncio.sleep(0.05)

    async def work() -> None:
        for number in range(num_batches):
            keys = [f"k{number}-{i}" for i in range(BATCH)]
            its = units[number * BATCH : (number + 1) * BATCH]
            costs = {key: Cost(stage="s", num_items=1) for key in keys}
            done = {key: address(key) for key in keys}
            await insist(lambda keys=keys: ledger.take_up(keys, worker="w"))  # type: ignore[misc]
            await insist(lambda d=done, c=costs: ledger.finish(d, run="run", costs=c))  # type: ignore[misc]
            await insist(lambda its=its: ledger.conclude("run", [outcome(unit) for unit in its]))  # type: ignore[misc]
            await asyncio.sleep(0.02)

    working = asyncio.create_task(work())
    for _ in range(2):
        await asyncio.sleep(0.4)
        await asyncio.to_thread(server.do, "kill", "postgres")
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.do, "up", "postgres")
    await asyncio.wait_for(working, 120)
    assert num_retries > 0, "the server was away while nobody asked it"
    assert await ledger.outcome_counts("run") == {("a", "kept", ""): num_batches * BATCH}
    assert len([None async for _ in ledger.outcomes("run")]) == num_batches * BATCH
    assert await ledger.costs("run") == [Cost(stage="s", num_items=num_batches * BATCH)]
    assert await ledger.open_prompts("run") == set()
    await ledger.aclose()


async def test_a_lease_is_lost_with_its_server_and_may_be_held_again(server: Server) -> None:
    tables = SqlServerTables(server.url)
    async with tables.leases.hold("a") as lease:
        await asyncio.to_thread(server.do, "kill", "postgres")
        await asyncio.wait_for(lease.lost(), 10)
        with pytest.raises(Retry):
            async with tables.leases.try_hold("b"):
                pass
        await asyncio.to_thread(server.do, "up", "postgres")
    async with asyncio.timeout(30), tables.leases.hold("a") as again:
        assert not again.is_lost
    await tables.aclose()
