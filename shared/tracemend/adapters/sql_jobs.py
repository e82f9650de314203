"""Jobs and their attempts. Made by `sql_server`.

Every report is one conditional update: it changes the job only if the attempt that reports is the newest and the job is
running, so there is no moment at which two attempts can both be heard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, update

from tracemend.adapters import sql_rows
from tracemend.adapters.sql_engine import Database
from tracemend.adapters.sql_pages import newest
from tracemend.adapters.sql_rows import Values
from tracemend.adapters.sql_server_tables import JOBS
from tracemend.kit.ports import Address
from tracemend.kit.server_ports import Conflict, Fenced, JobRecord, JobState

_STARTABLE = (JobState.RUNNING.value, JobState.FAILED.value)


class SqlJobs:
    """`kit.server_ports.Jobs`."""

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def start(self, key: str, *, plan: str, kind: str = "", run: str = "", submitted_by: str = "") -> int:
        now_s = self._clock()
        fresh = {"state": JobState.RUNNING.value, "progress": "{}", "reason": "", "updated_at_s": now_s}
        made = {"key": key, "plan": plan, "kind": kind, "run": run, "submitted_by": submitted_by}
        again = {**fresh, "attempt": JOBS.c.attempt + 1, "revision": JOBS.c.revision + 1}

        def work(connection: Connection) -> int:
            statement = sql_rows.upsert(connection, JOBS).values(
                {**made, **fresh, "attempt": 1, "revision": 1, "created_at_s": now_s}
            )
            may_start = (JOBS.c.plan == plan) & JOBS.c.state.in_(_STARTABLE)
            statement = statement.on_conflict_do_update(index_elements=["key"], set_=again, where=may_start)
            attempt = connection.scalar(statement.returning(JOBS.c.attempt))
            if attempt is None:
                job = _job(connection, key)
                what = f"is {job.state.value}" if job.plan == plan else "was made from another plan"
                raise Conflict(f"job {key} {what} and cannot be started")
            return int(attempt)

        return await self._database.write(work)

    async def progress(self, key: str, attempt: int, told: Mapping[str, float]) -> JobRecord:
        return await self._report(key, attempt, {"progress": json.dumps(dict(told), sort_keys=True)})

    async def finish(self, key: str, attempt: int, *, address: Address) -> JobRecord:
        return await self._report(key, attempt, {"state": JobState.DONE.value, **sql_rows.address_values(address)})

    async def fail(self, key: str, attempt: int, *, reason: str, address: Address | None = None) -> JobRecord:
        ended = {"state": JobState.FAILED.value, "reason": sql_rows.storable(reason)}
        return await self._report(key, attempt, ended | (sql_rows.address_values(address) if address else {}))

    async def cancel(self, key: str, *, expected_etag: str = "", reason: str = "") -> JobRecord:
        ended = {"state": JobState.CANCELLED.value, "reason": sql_rows.storable(reason)}
        values = {**ended, **sql_rows.changed(JOBS, self._clock())}

        def work(connection: Connection) -> JobRecord:
            job = _job(connection, key, locked=True)
            if expected_etag and job.etag != expected_etag:
                raise Conflict(f"job {key} has changed: its etag is no longer {expected_etag}; read it again")
            if job.state is JobState.DONE:
                raise Conflict(f"job {key} is done and cannot be cancelled")
            if job.state is not JobState.CANCELLED:
                connection.execute(update(JOBS).where(JOBS.c.key == key).values(values))
            return _job(connection, key)

        return await self._database.write(work)

    async def get(self, key: str) -> JobRecord | None:
        row = await self._database.read(lambda c: c.execute(select(JOBS).where(JOBS.c.key == key)).first())
        return None if row is None else _record_of(row)

    async def page(
        self,
        *,
        after: str = "",
        limit: int = 100,
        kind: str = "",
        run: str = "",
        states: Collection[JobState] = (),
    ) -> Sequence[JobRecord]:
        conditions = [JOBS.c[name] == wanted for name, wanted in (("kind", kind), ("run", run)) if wanted]
        if states:
            conditions.append(JOBS.c.state.in_(sorted(state.value for state in states)))
        order, kinds = (JOBS.c.created_at_s, JOBS.c.key), [conditions]
        rows = await self._database.read(lambda c: newest(c, order, kinds=kinds, after=after, limit=limit))
        return [_record_of(row) for row in rows]

    async def _report(self, key: str, attempt: int, said: Values) -> JobRecord:
        """The job with what its newest attempt said; saying again how it ended changes nothing."""
        now_s = self._clock()
        is_heard = (JOBS.c.key == key) & (JOBS.c.attempt == attempt) & (JOBS.c.state == JobState.RUNNING.value)
        statement = update(JOBS).where(is_heard).values({**said, **sql_rows.changed(JOBS, now_s)}).returning(JOBS)

        def work(connection: Connection) -> JobRecord:
            row = connection.execute(statement).first()
            if row is None:
                job = _row(connection, key)
                said_before = "state" in said and all(getattr(job, name) == value for name, value in said.items())
                if job.attempt != attempt or not said_before:
                    raise Fenced(f"job {key} is {job.state} in attempt {job.attempt}: attempt {attempt} is not heard")
                row = job
            return _record_of(row)

        return await self._database.write(work)


def _row(connection: Connection, key: str, *, locked: bool = False) -> Row[Any]:
    statement = select(JOBS).where(JOBS.c.key == key)
    row = connection.execute(statement.with_for_update() if locked else statement).first()
    if row is None:
        raise KeyError(key)
    return row


def _job(connection: Connection, key: str, *, locked: bool = False) -> JobRecord:
    return _record_of(_row(connection, key, locked=locked))


def _record_of(row: Row[Any]) -> JobRecord:
    return JobRecord(
        key=row.key,
        plan=row.plan,
        kind=row.kind,
        run=row.run,
        state=JobState(row.state),
        attempt=row.attempt,
        progress=json.loads(row.progress),
        address=None if row.pack is None else sql_rows.address_of(row),
        reason=row.reason,
        etag=str(row.revision),
        submitted_by=row.submitted_by,
        created_s=row.created_at_s,
        updated_s=row.updated_at_s,
    )
