"""The audit log: entries that name the one before them by its digest.

Made by `sql_server`. Appending locks the row that says where the chain ends, so entries follow one another whoever
writes them; the database refuses to change or remove an entry, and `verify` finds out who did so all the same. That the
chain was cut off at its end and its head set back shows only against a head that was kept elsewhere.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from tracemend.adapters import sql_rows
from tracemend.adapters.sql_engine import Database
from tracemend.adapters.sql_server_tables import AUDIT, AUDIT_HEAD
from tracemend.kit.ids import digest_of
from tracemend.kit.server_ports import AuditEntry, ChainedEntry, ChainHead

_PAGE = 1000
_HEAD = select(AUDIT_HEAD.c.number, AUDIT_HEAD.c.digest)


class SqlAuditLog:
    """`kit.server_ports.AuditLog`."""

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def append(self, entry: AuditEntry) -> ChainedEntry:
        said = {field.name: getattr(entry, field.name) for field in fields(entry)}
        said = {name: sql_rows.storable(value) for name, value in said.items() if name != "details"}
        said["details"] = json.dumps(dict(entry.details), sort_keys=True)

        def work(connection: Connection) -> ChainedEntry:
            head = connection.execute(_HEAD.with_for_update()).one()
            values = {**said, "number": head.number + 1, "time_s": self._clock(), "previous": head.digest}
            row = connection.execute(insert(AUDIT).values(**values, digest=digest_of(values)).returning(AUDIT)).one()
            connection.execute(update(AUDIT_HEAD).values(number=row.number, digest=row.digest))
            return _entry_of(row)

        return await self._database.write(work)

    async def entries(self, *, after: int = 0, limit: int = 100) -> Sequence[ChainedEntry]:
        statement = select(AUDIT).where(AUDIT.c.number > after).order_by(AUDIT.c.number).limit(max(limit, 0))
        rows = await self._database.read(lambda c: c.execute(statement).all())
        return [_entry_of(row) for row in rows]

    async def head(self) -> ChainHead:
        row = await self._database.read(lambda c: c.execute(_HEAD).first())
        return ChainHead() if row is None else ChainHead(number=row.number, digest=row.digest)

    async def verify(self, *, anchor: ChainHead | None = None) -> int | None:
        known = [await self.head(), anchor or ChainHead()]
        last, is_whole, is_end = ChainHead(), True, False
        while is_whole and not is_end:
            work = functools.partial(_follow, last=last, known=known)
            last, is_whole, is_end = await self._database.read(work)
        if not is_whole or any(head.number > last.number for head in known):
            return last.number + 1
        end = await self.head()  # read last: entries that were appended meanwhile have moved it
        return end.number + 1 if end.number < last.number else None


def _follow(connection: Connection, *, last: ChainHead, known: Sequence[ChainHead]) -> tuple[ChainHead, bool, bool]:
    """The last entry of a page that stands in its place in the chain after `last` and is what `known` heads say,
    whether all of the page are so, and whether it was the last page."""
    page = select(AUDIT).where(AUDIT.c.number > last.number).order_by(AUDIT.c.number).limit(_PAGE)
    rows = connection.execute(page).all()
    for row in rows:
        values = row._asdict()
        digest = values.pop("digest")
        is_next = (row.number, row.previous) == (last.number + 1, last.digest)
        if not is_next or digest != digest_of(values):
            return last, False, False
        if any(head.number == row.number and head.digest != digest for head in known):
            return last, False, False
        last = ChainHead(number=row.number, digest=digest)
    return last, True, len(rows) < _PAGE


def _entry_of(row: Row[Any]) -> ChainedEntry:
    entry = AuditEntry(
        principal=row.principal,
        action=row.action,
        resource=row.resource,
        purpose=row.purpose,
        request_id=row.request_id,
        details=json.loads(row.details),
    )
    return ChainedEntry(number=row.number, time_s=row.time_s, entry=entry, previous=row.previous, digest=row.digest)
