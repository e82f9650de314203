"""A PostgreSQL database that was made without an encoding."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import pytest
from tests.contract.ledgers import prompt
from tests.needs import needs_server

from tracemend.adapters.sql_ledger import SqlLedger


@pytest.fixture
def database_without_encoding() -> Iterator[str]:
    import psycopg
    from sqlalchemy import make_url

    dsn, name = needs_server("POSTGRES_DSN"), f"ascii_{secrets.token_hex(6)}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        made = f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
        connection.execute(made.encode())
        yield make_url(dsn).set(database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_text_comes_back_as_text(database_without_encoding: str) -> None:
    """Without a word about encodings its server sends bytes, and nothing opens."""

    async def check() -> None:
        ledger = SqlLedger(database_without_encoding)
        await ledger.open_run("läuft", plan="p")
        await ledger.admit("läuft", prompts=[prompt(0)], refused=[], units=[])
        assert [each.prompt async for each in ledger.admitted("läuft")] == [prompt(0).prompt]
        await ledger.aclose()

    asyncio.run(check())
