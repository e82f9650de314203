"""Answers by request id. Made by `sql_server`; the first answer to a request is the one that is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Select, delete, select, tuple_

from tracemend.adapters import sql_rows
from tracemend.adapters.sql_engine import Database
from tracemend.adapters.sql_server_tables import REQUESTS
from tracemend.kit.server_ports import Remembered

_NUM_EXPIRED = 5000
"""Most answers that one call drops: a long transaction would hold up others."""


class SqlRequests:
    """`kit.server_ports.Requests`."""

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def recall(self, principal: str, method: str, request_id: str) -> Remembered | None:
        statement = _answer(principal, method, request_id)
        row = await self._database.read(lambda c: c.execute(statement).first())
        return None if row is None else Remembered(digest=row.digest, response=row.response)

    async def remember(
        self, principal: str, method: str, request_id: str, *, digest: str, response: bytes
    ) -> Remembered:
        named = {"principal": principal, "method": method, "request_id": request_id}
        values = {**named, "digest": digest, "response": response, "answered_at_s": self._clock()}

        def work(connection: Connection) -> Remembered:
            connection.execute(sql_rows.upsert(connection, REQUESTS).values(values).on_conflict_do_nothing())
            row = connection.execute(_answer(principal, method, request_id)).one()
            return Remembered(digest=row.digest, response=row.response)

        return await self._database.write(work)

    async def expire(self, *, before_s: float) -> int:
        key = list(REQUESTS.primary_key.columns)
        old = select(*key).where(REQUESTS.c.answered_at_s < before_s).order_by(REQUESTS.c.answered_at_s)
        statement = delete(REQUESTS).where(tuple_(*key).in_(old.limit(_NUM_EXPIRED)))
        return await self._database.write(lambda c: c.execute(statement).rowcount)


def _answer(principal: str, method: str, request_id: str) -> Select[Any]:
    its = {"principal": principal, "method": method, "request_id": request_id}
    return select(REQUESTS.c.digest, REQUESTS.c.response).where(*(REQUESTS.c[name] == its[name] for name in its))
