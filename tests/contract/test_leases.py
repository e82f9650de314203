"""One holder at a time of each name, over every database, and what becomes of a lease whose connection breaks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from tests.contract.ledgers import URLS, postgresql_url

from tracemend.adapters.sql_leases import lock_number
from tracemend.adapters.sql_server import SqlServerTables
from tracemend.kit.server_ports import Leases

HOLDER = Path(__file__).with_name("lease_holders.py")


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.servers) if name != "sqlite" else name for name in URLS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return URLS[request.param](tmp_path)


@pytest.fixture
async def leases(url: str) -> AsyncIterator[Leases]:
    opened = SqlServerTables(url)
    yield opened.leases
    await opened.aclose()


@pytest.fixture
async def others(url: str) -> AsyncIterator[Leases]:
    """As another process sees them."""
    opened = SqlServerTables(url)
    yield opened.leases
    await opened.aclose()


async def test_a_name_has_one_holder_and_names_do_not_meddle(leases: Leases, others: Leases) -> None:
    async with leases.hold("a") as lease:
        assert (lease.name, lease.is_lost) == ("a", False)
        for each in (leases, others):
            async with each.try_hold("a") as second:
                assert second is None
        async with others.try_hold("b") as other_name:
            assert other_name is not None
    async with others.try_hold("a") as freed:
        assert freed is not None


async def test_who_waits_gets_the_lease_when_it_is_free(leases: Leases, others: Leases) -> None:
    order: list[str] = []

    async def wait() -> None:
        async with others.hold("a"):
            order.append("second")

    async with leases.hold("a"):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.5)
        order.append("first")
    await asyncio.wait_for(waiting, 10)
    assert order == ["first", "second"]


async def test_never_two_hold_a_lease_at_the_same_time(leases: Leases, others: Leases) -> None:
    holders, most, num_turns = 0, 0, 0

    async def take_turns(mine: Leases) -> None:
        nonlocal holders, most, num_turns
        for _ in range(3):
            async with mine.hold("a"):
                holders += 1
                most = max(most, holders)
                await asyncio.sleep(0.002)
                holders -= 1
                num_turns += 1

    await asyncio.wait_for(asyncio.gather(*(take_turns(each) for each in (leases, others) * 2)), 60)
    assert (most, num_turns) == (1, 12)


async def test_a_holder_that_fails_lets_go(leases: Leases, others: Leases) -> None:
    with pytest.raises(RuntimeError):
        async with leases.hold("a"):
            raise RuntimeError("work failed")
    async with others.try_hold("a") as freed:
        assert freed is not None


async def test_who_stops_waiting_holds_nothing(leases: Leases, others: Leases) -> None:
    async def wait() -> None:
        async with others.hold("a"):
            raise AssertionError("not free")

    async with leases.hold("a"):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.3)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with leases.try_hold("a") as freed:
        assert freed is not None


async def test_a_killed_process_holds_nothing(leases: Leases, url: str) -> None:
    holder = await asyncio.create_subprocess_exec(sys.executable, str(HOLDER), url, "a", stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    async with leases.try_hold("a") as lease:
        assert lease is None
    holder.kill()
    await holder.wait()
    async with asyncio.timeout(15), leases.hold("a") as lease:
        assert not lease.is_lost


@pytest.mark.servers
async def test_a_holder_whose_connection_breaks_is_told_and_may_hold_again(tmp_path: Path) -> None:
    url = postgresql_url(tmp_path)
    tables = SqlServerTables(url)
    async with tables.leases.hold("a") as lease:
        told = asyncio.create_task(lease.lost())
        end_lease_sessions(url)
        await asyncio.wait_for(told, 10)
        assert lease.is_lost
        async with asyncio.timeout(10), tables.leases.hold("a") as next_lease:
            assert not next_lease.is_lost
    await tables.aclose()


@pytest.mark.servers
async def test_closing_the_tables_loses_their_leases(tmp_path: Path) -> None:
    tables = SqlServerTables(postgresql_url(tmp_path))
    async with tables.leases.hold("a") as lease:
        await tables.aclose()
        assert lease.is_lost
        await asyncio.wait_for(lease.lost(), 1)


def end_lease_sessions(url: str) -> None:
    """End the server's side of the session that holds the lease "a" of this schema."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
            "AND classid::bigint << 32 | objid::bigint = %s",
            (lease_key(connection, "a"),),
        )


def lease_key(connection: psycopg.Connection[tuple[object, ...]], name: str) -> int:
    row = connection.execute("SELECT current_schema()").fetchone()
    assert row is not None
    return lock_number(str(row[0]), name)
