"""The `sqlite:` and `postgresql:` ledger: the one place with memory, on SQLAlchemy Core.

Opened by `runtime`. Every method is one transaction; the statements are the same for both databases. First writers win
by `ON CONFLICT DO NOTHING` and nothing else: no claims, no locks over work. Rows are written in key order, so that
processes that write the same keys wait for one another and never in a circle. Iterators read page by page and hold no
transaction between pages. What a method wrote survives SIGKILL and power cuts once it has returned.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, select, tuple_, update

from tracemend.adapters import sql_rows, sql_units
from tracemend.adapters.sql_engine import Database
from tracemend.adapters.sql_server_tables import CHUNKS, JOBS
from tracemend.adapters.sql_tables import ATTEMPTS, OUTCOMES, PHASES, PROMPTS, REFUSED, RUNS, WORK
from tracemend.kit.ports import Address, AdmittedPrompt, ConcludedUnit, Cost, RefusedRow
from tracemend.kit.run_states import RunState
from tracemend.records import Outcome, Unit

_FRAMES = (PROMPTS, REFUSED, OUTCOMES, WORK)
"""Tables whose addresses are those of frames, which hold records."""
_PAGE = 1000
"""Rows that an iterator reads at a time."""


class SqlLedger:
    """`kit.ports.Ledger`. `clock` gives the times that rows are stamped with, in seconds since 1970."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        """Opens, creates or migrates the database at `url`, blocking; `SetupError` says why that cannot be done."""
        self._database = Database(url)
        self._clock = clock

    async def aclose(self) -> None:
        await self._database.aclose()

    # runs -----------------------------------------------------------------------------------------

    async def open_run(self, run: str, *, plan: str) -> str:
        now_s = self._clock()
        values = {"run": run, "plan": plan, "state": RunState.RECEIVING, "opened_at_s": now_s, "updated_at_s": now_s}

        def work(connection: Connection) -> str:
            connection.execute(sql_rows.upsert(connection, RUNS).values(values).on_conflict_do_nothing())
            is_new = (RUNS.c.run == run) & (RUNS.c.plan != plan)
            connection.execute(update(RUNS).where(is_new).values(plan=plan, **sql_rows.changed(RUNS, now_s)))
            return str(connection.scalar(select(RUNS.c.state).where(RUNS.c.run == run)))

        return await self._database.write(work)

    async def runs(self) -> list[str]:
        statement = select(RUNS.c.run).order_by(RUNS.c.opened_at_s, RUNS.c.run)
        return await self._database.read(lambda c: list(c.scalars(statement)))

    async def run_plan(self, run: str) -> str | None:
        return await self._database.read(lambda c: c.scalar(select(RUNS.c.plan).where(RUNS.c.run == run)))

    async def set_state(self, run: str, state: str) -> None:
        """`ValueError` if the run was never opened. Whoever calls this owns the run: any state may follow any."""
        now_s = self._clock()
        statement = update(RUNS).where(RUNS.c.run == run).values(state=state, **sql_rows.changed(RUNS, now_s))
        if not await self._database.write(lambda c: c.execute(statement).rowcount):
            raise ValueError(f"run {run} was never opened")

    async def run_state(self, run: str) -> str | None:
        return await self._database.read(lambda c: c.scalar(select(RUNS.c.state).where(RUNS.c.run == run)))

    # intake ---------------------------------------------------------------------------------------

    async def admit(
        self, run: str, *, prompts: Sequence[AdmittedPrompt], refused: Sequence[RefusedRow], units: Sequence[Unit]
    ) -> None:
        """`ValueError` if the run was never opened, or a unit names a prompt that is not admitted."""
        now_s = self._clock()

        def work(connection: Connection) -> None:
            known = connection.execute(select(RUNS.c.num_admitted).where(RUNS.c.run == run).with_for_update()).first()
            if known is None:
                raise ValueError(f"run {run} was never opened")
            if known.num_admitted is None:
                sql_units.seal(connection, run, prompts=prompts, refused=refused, units=units)
                connection.execute(update(RUNS).where(RUNS.c.run == run).values(**sql_rows.changed(RUNS, now_s)))

        await self._database.write(work)

    async def intake(self, run: str) -> tuple[int, int] | None:
        statement = select(RUNS.c.num_admitted, RUNS.c.num_refused).where(RUNS.c.run == run)
        row = await self._database.read(lambda c: c.execute(statement).first())
        return None if row is None or row.num_admitted is None else (row.num_admitted, row.num_refused)

    async def admitted(self, run: str) -> AsyncIterator[AdmittedPrompt]:
        """In row order."""
        async for row in self._pages(select(PROMPTS).where(PROMPTS.c.run == run), PROMPTS.c.row):
            yield AdmittedPrompt(row=row.row, prompt=row.prompt, address=sql_rows.address_of(row))

    async def refused(self, run: str) -> AsyncIterator[RefusedRow]:
        """In row order."""
        async for row in self._pages(select(REFUSED).where(REFUSED.c.run == run), REFUSED.c.row):
            address = None if row.pack is None else sql_rows.address_of(row)
            yield RefusedRow(row=row.row, reason=row.reason, detail=row.detail, source=row.source, address=address)

    # work -----------------------------------------------------------------------------------------

    async def results(self, keys: Sequence[str]) -> dict[str, Address]:
        return await self._database.read(lambda c: sql_rows.results(c, keys))

    async def work(self, *, paid_by: str | None = None) -> AsyncIterator[tuple[str, Address]]:
        """In key order."""
        statement = select(WORK) if paid_by is None else select(WORK).where(WORK.c.run == paid_by)
        async for row in self._pages(statement, WORK.c.key):
            yield row.key, sql_rows.address_of(row)

    async def take_up(self, keys: Sequence[str], *, worker: str) -> tuple[dict[str, Address], dict[str, int]]:
        now_s = self._clock()

        def work(connection: Connection) -> tuple[dict[str, Address], dict[str, int]]:
            done = sql_rows.results(connection, keys)
            return done, sql_rows.begin(connection, set(keys) - done.keys(), worker=worker, now_s=now_s)

        return await self._database.write(work) if keys else ({}, {})

    async def begin(self, keys: Sequence[str], *, worker: str) -> dict[str, int]:
        now_s = self._clock()
        return await self._database.write(lambda c: sql_rows.begin(c, keys, worker=worker, now_s=now_s)) if keys else {}

    async def close_attempts(self, keys: Sequence[str]) -> None:
        def work(connection: Connection) -> None:
            for chunk in sql_rows.chunks(sorted(set(keys))):
                ours = ATTEMPTS.c.key.in_(chunk)
                connection.execute(update(ATTEMPTS).where(ours).values(num_unfinished=ATTEMPTS.c.num_unfinished - 1))
                connection.execute(delete(ATTEMPTS).where(ours, ATTEMPTS.c.num_unfinished <= 0))

        await self._database.write(work)

    async def forget(self, keys: Sequence[str]) -> None:
        def work(connection: Connection) -> None:
            for chunk in sql_rows.chunks(sorted(set(keys))):
                connection.execute(delete(WORK).where(WORK.c.key.in_(chunk)))

        await self._database.write(work)

    async def finish(
        self,
        results: Mapping[str, Address],
        *,
        run: str,
        costs: Mapping[str, Cost],
        subjects: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Address]:
        rows = [
            {"key": key, "run": run, "subject": subjects.get(key, ""), **sql_rows.address_values(results[key])}
            for key in sorted(results)
        ]

        def work(connection: Connection) -> dict[str, Address]:
            won = {key for (key,) in sql_rows.insert_new(connection, WORK, rows, returning=("key",))}
            sql_rows.add_costs(connection, run, (costs[key] for key in sorted(won) if key in costs))
            for chunk in sql_rows.chunks(sorted(results)):
                connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.key.in_(chunk)))
            return {**results, **sql_rows.results(connection, sorted(results.keys() - won))}

        return await self._database.write(work) if rows else {}

    # outcomes -------------------------------------------------------------------------------------

    async def conclude(self, run: str, outcomes: Sequence[tuple[Outcome, Address]], *, epoch: int = 0) -> None:
        """`ValueError` if a unit was never planned; then nothing of the call is written."""
        if outcomes:
            await self._database.write(lambda c: sql_units.conclude(c, run, outcomes, epoch))

    async def outcomes(
        self, run: str, *, arm: str | None = None, prompt: str | None = None
    ) -> AsyncIterator[ConcludedUnit]:
        """The outcome that counts (highest epoch) of every concluded unit, in order of arm, row, sample and variant."""
        order = (OUTCOMES.c.row, OUTCOMES.c.sample, OUTCOMES.c.variant)
        for each in [arm] if arm is not None else sorted(await self.unit_counts(run)):
            async for row in self._pages(sql_units.concluded(run, each, prompt), *order):
                yield sql_units.concluded_unit(row)

    async def reopen(self, run: str, *, arm: str, prompts: Sequence[str]) -> int:
        return await self._database.write(lambda c: sql_units.reopen(c, run, arm, prompts))

    async def reopened(self, run: str, *, arms: Sequence[str] | None = None) -> dict[tuple[str, str], int]:
        return await self._database.read(lambda c: sql_units.reopened(c, run, arms))

    async def open_prompts(
        self, run: str, *, arms: Sequence[str] | None = None, among: Sequence[str] | None = None
    ) -> set[str]:
        return await self._database.read(lambda c: sql_units.open_prompts(c, run, arms=arms, among=among))

    async def open_units(self, run: str, *, limit: int = _PAGE) -> list[tuple[Unit, int]]:
        """In order of arm, row, sample and variant."""
        return await self._database.read(lambda c: sql_units.open_units(c, run, limit))

    async def outcome_counts(self, run: str) -> dict[tuple[str, str, str], int]:
        tallies = await self._database.read(lambda c: sql_units.tallies(c, run))
        return {(arm, state, reason): num_units for (arm, state, reason), num_units in tallies.items() if state}

    async def unit_counts(self, run: str) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for (arm, _, _), num_units in (await self._database.read(lambda c: sql_units.tallies(c, run))).items():
            counts[arm] += num_units
        return dict(counts)

    # phases ---------------------------------------------------------------------------------------

    async def phase(self, run: str, key: str) -> Address | None:
        statement = select(PHASES).where(PHASES.c.run == run, PHASES.c.key == key)
        row = await self._database.read(lambda c: c.execute(statement).first())
        return None if row is None else sql_rows.address_of(row)

    async def finish_phase(self, run: str, key: str, *, name: str, address: Address) -> Address:
        values = {"run": run, "key": key, "name": name, "ended_at_s": self._clock(), **sql_rows.address_values(address)}

        def work(connection: Connection) -> Address:
            connection.execute(sql_rows.upsert(connection, PHASES).values(values).on_conflict_do_nothing())
            won = connection.execute(select(PHASES).where(PHASES.c.run == run, PHASES.c.key == key)).one()
            return sql_rows.address_of(won)

        return await self._database.write(work)

    async def phases(self, run: str) -> list[tuple[str, str, Address]]:
        statement = select(PHASES).where(PHASES.c.run == run).order_by(PHASES.c.number)
        rows = await self._database.read(lambda c: c.execute(statement).all())
        return [(row.name, row.key, sql_rows.address_of(row)) for row in rows]

    # upkeep ---------------------------------------------------------------------------------------

    async def referenced(self) -> set[str]:
        columns = [*(table.c.pack for table in (*_FRAMES, PHASES, CHUNKS, JOBS)), RUNS.c.plan, JOBS.c.plan]

        def work(connection: Connection) -> set[str]:
            return {blob for column in columns for blob in connection.scalars(select(column).distinct())} - {None}

        return await self._database.read(work)

    async def addresses(self, *, packs: Sequence[str] | None = None) -> AsyncIterator[Address]:
        for table in _FRAMES:
            for chunk in [None] if packs is None else sql_rows.chunks(packs):
                statement = select(table).where(table.c.pack.in_(chunk) if chunk else table.c.pack.is_not(None))
                async for row in self._pages(statement, *table.primary_key.columns):
                    yield sql_rows.address_of(row)

    async def about(self, prompt: str) -> AsyncIterator[Address]:
        admitted = select(PROMPTS).where(PROMPTS.c.prompt == prompt)
        rows = [(each.run, each.row) async for each in self._pages(admitted, *PROMPTS.primary_key.columns)]
        # By way of run and arm, with which the keys of outcomes begin.
        its_units = [(run, arm, row) for run, row in rows for arm in sorted(await self.unit_counts(run))]
        place = (OUTCOMES.c.run, OUTCOMES.c.arm, OUTCOMES.c.row)
        ended = (
            select(OUTCOMES).where(*(column == value for column, value in zip(place, unit, strict=True)))
            for unit in its_units
        )
        statements = [
            (PROMPTS, admitted),
            *((OUTCOMES, statement) for statement in ended),
            *((WORK, select(WORK).where(WORK.c.subject == subject)) for subject in (prompt, "")),
        ]
        for table, statement in statements:
            async for row in self._pages(statement, *table.primary_key.columns):
                yield sql_rows.address_of(row)

    async def repoint(self, moves: Mapping[Address, Address]) -> None:
        def work(connection: Connection) -> None:
            for table in _FRAMES:
                sql_rows.repoint(connection, table, moves)

        await self._database.write(work)

    # costs ----------------------------------------------------------------------------------------

    async def book_cost(self, run: str, cost: Cost, *, by: str) -> None:
        await self._database.write(lambda c: sql_rows.book_cost(c, run, cost, by=by))

    async def costs(self, run: str) -> list[Cost]:
        return await self._database.read(lambda c: sql_rows.costs(c, run))

    # ----------------------------------------------------------------------------------------------

    async def _pages(self, statement: Select[Any], *order: ColumnElement[Any]) -> AsyncIterator[Row[Any]]:
        """The rows of `statement` in `order`, whose columns it selects and which is unique, some at a time."""
        page, rest = statement.order_by(*order).limit(_PAGE), None
        while rows := await self._database.read(functools.partial(_all, page if rest is None else rest)):
            for row in rows:
                yield row
            if len(rows) < _PAGE:
                return
            rest = page.where(tuple_(*order) > tuple_(*(getattr(row, column.key or "") for column in order)))


def _all(statement: Select[Any], connection: Connection) -> Sequence[Row[Any]]:
    return connection.execute(statement).all()
