"""The ledgers that the contract runs over, each empty and of its own."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from tests.needs import needs_server

from tracemend.kit.ports import Address, AdmittedPrompt, RefusedRow
from tracemend.records import Outcome, OutcomeState, Unit


def sqlite_url(folder: Path) -> str:
    return f"sqlite:{folder / 'state' / 'ledger.db'}"


def postgresql_url(folder: Path) -> str:
    """A new schema in the database of POSTGRES_DSN, which is dropped when the tests end."""
    import psycopg

    dsn = needs_server("POSTGRES_DSN")
    schema = f"test_{secrets.token_hex(8)}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    atexit.register(_drop, dsn, schema)
    return f"{dsn}{'&' if '?' in dsn else '?'}options={quote(f'-csearch_path={schema}')}"


def _drop(dsn: str, schema: str) -> None:
    import psycopg

    # A server that is gone, or a lock that something still holds, is no reason to fail at the end.
    with contextlib.suppress(psycopg.Error), psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '2s'")
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())


URLS: dict[str, Callable[[Path], str]] = {"sqlite": sqlite_url, "postgresql": postgresql_url}


def address(label: str) -> Address:
    digest = hashlib.sha256(label.encode()).hexdigest()
    return Address(pack=digest, offset=2**33, length=len(label), digest=digest)


def prompt(row: int) -> AdmittedPrompt:
    return AdmittedPrompt(row=row, prompt=f"p{row}", address=address(f"p{row}"))


def refused(row: int) -> RefusedRow:
    return RefusedRow(row=row, reason="duplicate", detail="p0", source="file", address=address(f"r{row}"))


def outcome(unit: Unit, state: OutcomeState = OutcomeState.KEPT, reason: str = "") -> tuple[Outcome, Address]:
    return Outcome(id=f"o-{unit.prompt}", unit=unit, state=state, reason=reason), address(f"{unit}{state}{reason}")
