"""Pages of rows, the newest first, by keyset: each page costs the same, however far back it lies.

Used by the server tables that are listed.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Row, select, tuple_

Condition: TypeAlias = ColumnElement[bool]


def newest(
    connection: Connection,
    order: tuple[ColumnElement[Any], ColumnElement[Any]],
    *,
    kinds: Sequence[Sequence[Condition]],
    after: str,
    limit: int,
) -> list[Row[Any]]:
    """The `limit` newest rows of any of `kinds`, conditions of which a row meets one set, that are older than the row
    whose key is `after`, where that is not empty; `KeyError` if there is none.

    `order` are the columns of the time and of the key. Each kind is a query of its own, because an index that begins
    with what kinds tell apart gives the rows of one kind in order, and those of several in none."""
    table, key = order[0].table, order[1]
    statement = select(table).order_by(*(column.desc() for column in order)).limit(max(limit, 0))
    if after:
        place = connection.execute(select(*order).where(key == after)).first()
        if place is None:
            raise KeyError(after)
        statement = statement.where(tuple_(*order) < tuple_(*place))
    rows = [connection.execute(statement.where(*kind)).all() for kind in kinds]
    merged = heapq.merge(*rows, key=lambda row: tuple(row._mapping[column] for column in order), reverse=True)
    return list(merged)[: max(limit, 0)]
