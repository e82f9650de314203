"""The audit log is a chain: whoever changes, removes or reorders an entry is found out, over every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, exc, text
from tests.contract.ledgers import URLS
from tests.contract.old_ledgers import connect

from tracemend.adapters.sql_server import SqlServerTables
from tracemend.kit.server_ports import AuditEntry, AuditLog, ChainHead

ENTRY = AuditEntry(
    principal="ann", action="/tracemend.api/Read", resource="runs/r1", purpose="a \x00 review", details={"row": "3"}
)


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.servers) if name != "sqlite" else name for name in URLS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return URLS[request.param](tmp_path)


@pytest.fixture
async def audit(url: str) -> AsyncIterator[AuditLog]:
    opened = SqlServerTables(url)
    yield opened.audit
    await opened.aclose()


@pytest.fixture
async def five(audit: AuditLog) -> AuditLog:
    """Five entries."""
    for _ in range(5):
        await audit.append(ENTRY)
    return audit


async def test_every_entry_names_the_one_before_it(audit: AuditLog) -> None:
    assert await audit.head() == ChainHead()
    assert await audit.verify() is None
    first, second = await audit.append(ENTRY), await audit.append(ENTRY)
    assert (first.number, first.previous) == (1, "")
    assert (second.number, second.previous) == (2, first.digest)
    assert first.digest != second.digest
    assert await audit.entries() == [first, second]
    assert (first.entry.principal, first.entry.details) == ("ann", {"row": "3"})
    assert first.entry.purpose == "a \ufffd review"
    assert await audit.head() == ChainHead(number=2, digest=second.digest)
    assert await audit.verify() is None


async def test_entries_are_paged_by_number(five: AuditLog) -> None:
    assert [each.number for each in await five.entries(after=1, limit=3)] == [2, 3, 4]
    assert await five.entries(after=5) == []
    assert await five.entries(limit=0) == []


async def test_the_chain_holds_over_many_pages(url: str, audit: AuditLog) -> None:
    for _ in range(1001):
        await audit.append(ENTRY)
    assert await audit.verify() is None
    tamper(url, "DELETE FROM audit WHERE number = 1001")
    assert await audit.verify() == 1001


@pytest.mark.parametrize("statement", ["UPDATE audit SET purpose = 'x'", "DELETE FROM audit", "TRUNCATE audit"])
async def test_the_database_refuses_to_change_or_remove_entries(five: AuditLog, url: str, statement: str) -> None:
    if url.startswith("sqlite:") and statement.startswith("TRUNCATE"):
        statement = "DELETE FROM audit WHERE number = 5"  # SQLite has no TRUNCATE
    with pytest.raises(exc.DBAPIError, match="append-only"), connect(url) as connection:
        connection.execute(text(statement))
    assert len(await five.entries()) == 5
    assert await five.verify() is None


TAMPERING: dict[str, tuple[str, int]] = {
    "a changed word": ("UPDATE audit SET principal = 'bob' WHERE number = 3", 3),
    "a changed time": ("UPDATE audit SET time_s = time_s + 1 WHERE number = 1", 1),
    "a changed detail": ("""UPDATE audit SET details = '{"row": "4"}' WHERE number = 4""", 4),
    "a missing entry": ("DELETE FROM audit WHERE number = 2", 2),
    "a missing first entry": ("DELETE FROM audit WHERE number = 1", 1),
    "a missing last entry": ("DELETE FROM audit WHERE number = 5", 5),
    "nothing left": ("DELETE FROM audit", 1),
    "another end": ("UPDATE audit_head SET digest = 'x'", 5),
    "an end set back": ("UPDATE audit_head SET number = 3", 3),
    "no end": ("DELETE FROM audit_head", 1),
    "entries in another order": (
        "UPDATE audit SET number = 12 WHERE number = 2; UPDATE audit SET number = 2 WHERE number = 3; "
        "UPDATE audit SET number = 3 WHERE number = 12",
        2,
    ),
}


@pytest.mark.parametrize("kind", list(TAMPERING))
async def test_tampering_is_found_at_its_place(five: AuditLog, url: str, kind: str) -> None:
    statement, place = TAMPERING[kind]
    tamper(url, statement)
    assert await five.verify() == place


async def test_a_forged_entry_is_found(five: AuditLog, url: str) -> None:
    names = "time_s, principal, action, resource, purpose, request_id, details, previous, digest"
    tamper(url, f"INSERT INTO audit (number, {names}) SELECT 6, {names} FROM audit WHERE number = 5")
    assert await five.verify() == 6


async def test_a_chain_cut_at_its_end_and_set_back_is_found_by_a_head_that_was_kept(five: AuditLog, url: str) -> None:
    kept = await five.head()
    third = (await five.entries())[2]
    tamper(url, f"DELETE FROM audit WHERE number > 3; UPDATE audit_head SET number = 3, digest = '{third.digest}'")
    assert await five.verify() is None, "by itself it is a sound chain"
    assert await five.verify(anchor=kept) == 4
    await five.append(ENTRY)
    await five.append(ENTRY)
    assert await five.verify(anchor=kept) == 5, "written on, it ends in another entry than the kept one"


async def test_entries_of_several_writers_stand_in_one_chain(five: AuditLog, url: str) -> None:
    other = SqlServerTables(url)
    await asyncio.gather(*(log.append(ENTRY) for log in (five, other.audit) * 10))
    assert [each.number for each in await five.entries()] == list(range(1, 26))
    assert await five.verify() is None
    await other.aclose()


def tamper(url: str, statements: str) -> None:
    """What somebody does who may do everything to the database."""
    disarm: Callable[[Connection], object] = disarm_sqlite if url.startswith("sqlite:") else disarm_postgresql
    with connect(url) as connection:
        disarm(connection)
        for statement in statements.split(";"):
            connection.execute(text(statement))


def disarm_sqlite(connection: Connection) -> None:
    for verb in ("update", "delete"):
        connection.execute(text(f"DROP TRIGGER IF EXISTS audit_{verb}"))


def disarm_postgresql(connection: Connection) -> None:
    connection.execute(text("DROP TRIGGER IF EXISTS audit_is_append_only ON audit"))
