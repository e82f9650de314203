"""Between the ledger's records and its rows, and the inserts of which the first writer wins.

Used by the other `sql_` modules alone. Statements that every transaction needs are built once: SQLAlchemy takes longer
to put one together than SQLite to run it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Table, Update, bindparam, column, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.selectable import TableValuedAlias

from tracemend.adapters.sql_tables import ATTEMPTS, COSTS, WORK
from tracemend.kit.ports import Address, Cost

T = TypeVar("T")
Values = dict[str, Any]

CHUNK = 5000
"""Rows or keys in one statement: few enough for the parameter limits of both databases."""
_ADDED = ("num_items", "num_prompt_tokens", "num_cached_tokens", "num_new_tokens", "seconds", "money")
_BOOKED_BY = "#"
"""Between a stage and whoever booked for it, in the rows of what may be booked again."""
_INSERTS: Mapping[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}
_RESULTS = select(WORK).where(WORK.c.key.in_(bindparam("keys", expanding=True)))


def address_values(address: Address) -> Values:
    """The address columns of a row."""
    return {
        "pack": address.pack,
        "pack_offset": address.offset,
        "pack_length": address.length,
        "digest": address.digest,
    }


def address_of(row: Row[Any]) -> Address:
    """The address that a row holds."""
    return Address(pack=row.pack, offset=row.pack_offset, length=row.pack_length, digest=row.digest)


def changed(table: Table, now_s: float) -> Values:
    """What every change of a row of `table` sets besides: its revision and time."""
    return {"revision": table.c.revision + 1, "updated_at_s": now_s}


def storable(text: str) -> str:
    """`text` of a user as any database takes it: lone surrogates and NUL become replacement characters."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that can say what happens on conflict; both dialects spell it alike."""
    return _INSERTS[connection.dialect.name](table)


def insert_all(connection: Connection, table: Table, rows: Iterable[Values]) -> None:
    """Insert `rows` without ever holding all of them."""
    for chunk in chunks(rows):
        if connection.dialect.name == "sqlite":
            connection.execute(insert(table), chunk)
        else:
            connection.execute(_insert_given(table, chunk))


def insert_new(connection: Connection, table: Table, rows: Sequence[Values], *, returning: Sequence[str]) -> list[Any]:
    """Insert the `rows` that nobody has inserted before; their `returning` columns."""
    if not rows:
        return []
    columns = [table.c[name] for name in returning]
    if connection.dialect.name == "sqlite":
        statement = sqlite.insert(table).on_conflict_do_nothing().returning(*columns)
        return [tuple(row) for row in connection.execute(statement, rows)]
    won = connection.execute(_insert_given(table, rows).on_conflict_do_nothing().returning(*columns))
    return [tuple(row) for row in won]


def _insert_given(table: Table, rows: Sequence[Values]) -> postgresql.Insert:
    given = _given(table, rows)
    return postgresql.insert(table).from_select([str(each.key) for each in given.c], select(given))


def _given(table: Table, rows: Sequence[Values]) -> TableValuedAlias:
    """`rows` as a table of PostgreSQL: one array per column instead of a parameter per value, which costs it dearly."""
    names = list(rows[0])
    arrays = [bindparam(name, [row[name] for row in rows], postgresql.ARRAY(table.c[name].type)) for name in names]
    source = func.unnest(*arrays).table_valued(*(column(name, table.c[name].type) for name in names))
    return source.render_derived(name="given")


def update_all(connection: Connection, table: Table, rows: Sequence[Values], *, key: Sequence[str]) -> None:
    """Give each row of `table` that one of `rows` names by `key` the other values of that one."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        statement = _assignment_of_its(table, tuple(rows[0]), tuple(key))
        connection.execute(statement, [{f"its_{name}": value for name, value in row.items()} for row in rows])
    else:
        given = _given(table, rows)
        connection.execute(_assignment(table, {name: given.c[name] for name in rows[0]}, key))


@functools.cache
def _assignment_of_its(table: Table, names: tuple[str, ...], key: tuple[str, ...]) -> Update:
    return _assignment(table, {name: bindparam(f"its_{name}") for name in names}, key)


def _assignment(table: Table, given: Mapping[str, Any], key: Sequence[str]) -> Update:
    return (
        update(table)
        .where(*(table.c[name] == given[name] for name in key))
        .values({name: value for name, value in given.items() if name not in key})
    )


def add_up(connection: Connection, table: Table, rows: Sequence[Values], *, added: Sequence[str]) -> None:
    """Insert `rows`, or add their `added` columns to those of the rows that have their keys."""
    connection.execute(_adding(connection.dialect.name, table, tuple(added)), rows)


@functools.cache
def _adding(dialect: str, table: Table, added: tuple[str, ...]) -> sqlite.Insert | postgresql.Insert:
    statement = _INSERTS[dialect](table)
    sums = {name: table.c[name] + statement.excluded[name] for name in added}
    return statement.on_conflict_do_update(index_elements=[*table.primary_key.columns], set_=sums)


def results(connection: Connection, keys: Iterable[str]) -> dict[str, Address]:
    """Addresses of the work keys that are done."""
    found: dict[str, Address] = {}
    for chunk in chunks(keys):
        for row in connection.execute(_RESULTS, {"keys": chunk}):
            found[row.key] = address_of(row)
    return found


def begin(connection: Connection, keys: Iterable[str], *, worker: str, now_s: float) -> dict[str, int]:
    """Count an attempt on each of `keys`; how many before it did not end."""
    fresh = {"num_unfinished": 1, "worker": worker, "begun_at_s": now_s}
    rows = [{"key": key, **fresh} for key in sorted(set(keys))]
    if not rows:
        return {}
    on_sqlite = connection.dialect.name == "sqlite"
    statement = sqlite.insert(ATTEMPTS) if on_sqlite else _insert_given(ATTEMPTS, rows)
    again = {
        "num_unfinished": ATTEMPTS.c.num_unfinished + 1,
        "worker": statement.excluded.worker,
        "begun_at_s": statement.excluded.begun_at_s,
    }
    statement = statement.on_conflict_do_update(index_elements=["key"], set_=again)
    counting = statement.returning(ATTEMPTS.c.key, ATTEMPTS.c.num_unfinished)
    counted = connection.execute(counting, rows) if on_sqlite else connection.execute(counting)
    return {row.key: row.num_unfinished - 1 for row in counted}


def add_costs(connection: Connection, run: str, costs: Iterable[Cost]) -> None:
    """Add `costs` to the run's sums, which are kept by stage."""
    sums = _summed(costs)
    if sums:
        add_up(connection, COSTS, [{"run": run, **asdict(sums[stage])} for stage in sorted(sums)], added=_ADDED)


def book_cost(connection: Connection, run: str, cost: Cost, *, by: str) -> None:
    """Note `cost` as all that `by` has booked for the stage, in a row of its own beside the stage's sum."""
    values = asdict(replace(cost, stage=f"{cost.stage}{_BOOKED_BY}{by}"))
    statement = upsert(connection, COSTS).values(run=run, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["run", "stage"], set_=values))


def costs(connection: Connection, run: str) -> list[Cost]:
    """The run's costs, one sum per stage."""
    columns = [column for column in COSTS.c if column.name != "run"]
    rows = connection.execute(select(*columns).where(COSTS.c.run == run)).all()
    found = (Cost(**row._mapping) for row in rows)
    sums = _summed(replace(cost, stage=cost.stage.partition(_BOOKED_BY)[0]) for cost in found)
    return [sums[stage] for stage in sorted(sums)]


def _summed(costs: Iterable[Cost]) -> dict[str, Cost]:
    sums: dict[str, Cost] = {}
    for cost in costs:
        before = sums.get(cost.stage, Cost(stage=cost.stage))
        added: Values = {name: getattr(before, name) + getattr(cost, name) for name in _ADDED}
        sums[cost.stage] = replace(before, **added)
    return sums


def repoint(connection: Connection, table: Table, moves: Mapping[Address, Address]) -> None:
    """Give the rows of `table` whose address moves their new one."""
    keys = list(table.primary_key.columns)
    values: dict[str, Any] = (
        {name: bindparam(f"its_{name}") for name in address_values(next(iter(moves.values())))} if moves else {}
    )
    statement = update(table).values(values).where(*(key == bindparam(f"key_{key.name}") for key in keys))
    for packs in chunks(sorted({address.pack for address in moves})):
        changed: list[Values] = []
        for row in connection.execute(select(table).where(table.c.pack.in_(packs))):
            moved = moves.get(address_of(row))
            if moved is not None:
                new = {f"its_{name}": value for name, value in address_values(moved).items()}
                changed.append(new | {f"key_{key.name}": getattr(row, key.name) for key in keys})
        if changed:
            connection.execute(statement, changed)


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """`items` in lists of at most `CHUNK`."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk
