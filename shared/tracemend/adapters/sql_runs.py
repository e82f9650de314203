"""The runs as services show them: the ledger's own rows of runs, moved between states by `kit.run_states`.

Made by `sql_server`. Every change of a row counts its `revision`, which is the etag; the ledger's own writes count too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, update

from tracemend.adapters import sql_rows
from tracemend.adapters.sql_engine import Database
from tracemend.adapters.sql_pages import newest
from tracemend.adapters.sql_tables import RUNS
from tracemend.kit.run_states import RunState, may_follow
from tracemend.kit.server_ports import Conflict, RunRecord

_GIVEN = ("plan", "name", "target", "submitted_by")
"""What must be equal where a run is created again."""


class SqlRuns:
    """`kit.server_ports.Runs`."""

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def create(self, record: RunRecord) -> RunRecord:
        now_s = self._clock()
        given = {name: sql_rows.storable(getattr(record, name)) for name in _GIVEN}
        values = {
            "run": record.run,
            **given,
            "state": RunState.RECEIVING.value,
            "reason": "",
            "labels": json.dumps(dict(record.labels), sort_keys=True),
            "opened_at_s": now_s,
            "updated_at_s": now_s,
        }

        def work(connection: Connection) -> RunRecord:
            connection.execute(sql_rows.upsert(connection, RUNS).values(values).on_conflict_do_nothing())
            stored = _record_of(_row_of(connection, record.run, locked=True))
            differing = [name for name in _GIVEN if getattr(stored, name) != given[name]]
            if differing == ["plan"] and stored.state is RunState.PAUSED:
                changed = {"plan": given["plan"], **sql_rows.changed(RUNS, now_s)}
                connection.execute(update(RUNS).where(RUNS.c.run == record.run).values(changed))
                return _record_of(_row_of(connection, record.run))
            if differing:
                raise Conflict(f"run {record.run} exists already, with another {' and '.join(differing)}")
            return stored

        return await self._database.write(work)

    async def get(self, run: str) -> RunRecord | None:
        row = await self._database.read(lambda c: c.execute(select(RUNS).where(RUNS.c.run == run)).first())
        return None if row is None else _record_of(row)

    async def page(
        self, *, after: str = "", limit: int = 100, states: Collection[RunState] = ()
    ) -> Sequence[RunRecord]:
        order = (RUNS.c.opened_at_s, RUNS.c.run)
        kinds = [[RUNS.c.state == state.value] for state in sorted(set(states))] or [[]]
        rows = await self._database.read(lambda c: newest(c, order, kinds=kinds, after=after, limit=limit))
        return [_record_of(row) for row in rows]

    async def set_state(self, run: str, state: RunState, *, expected_etag: str = "", reason: str = "") -> RunRecord:
        now_s = self._clock()

        def work(connection: Connection) -> RunRecord:
            found = _record_of(_row_of(connection, run, locked=True))
            if expected_etag and found.etag != expected_etag:
                raise Conflict(f"run {run} has changed: its etag is no longer {expected_etag}; read it again")
            if not may_follow(found.state, state):
                raise Conflict(f"run {run} is {found.state.value}, and cannot become {state.value} from there")
            if found.state is not state:
                values = {"state": state.value, "reason": sql_rows.storable(reason), **sql_rows.changed(RUNS, now_s)}
                connection.execute(update(RUNS).where(RUNS.c.run == run).values(values))
            return _record_of(_row_of(connection, run))

        return await self._database.write(work)


def _row_of(connection: Connection, run: str, *, locked: bool = False) -> Row[Any]:
    statement = select(RUNS).where(RUNS.c.run == run)
    row = connection.execute(statement.with_for_update() if locked else statement).first()
    if row is None:
        raise KeyError(run)
    return row


def _record_of(row: Row[Any]) -> RunRecord:
    return RunRecord(
        run=row.run,
        name=row.name,
        state=RunState(row.state),
        etag=str(row.revision),
        plan=row.plan,
        target=row.target,
        submitted_by=row.submitted_by,
        reason=row.reason,
        num_rows=row.num_rows,
        num_admitted=row.num_admitted,
        num_refused=row.num_refused,
        created_s=row.opened_at_s,
        updated_s=row.updated_at_s,
        labels=json.loads(row.labels),
    )
