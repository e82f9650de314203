"""What the console, `watch` and the coordinator ask stays cheap on a ledger of a million units: PostgreSQL's own plans.

Every statement of the questions is caught as it is sent and explained again with the same values.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event
from tests.contract.ledgers import outcome, postgresql_url

from tracemend.adapters.sql_ledger import SqlLedger
from tracemend.adapters.sql_server import SqlServerTables
from tracemend.kit.run_states import RunState
from tracemend.records import Unit

pytestmark = [pytest.mark.slow, pytest.mark.servers]

NUM_PROMPTS = 500_000
"""With two arms, a million units."""
NUM_RUNS = 50_000
LARGE = ("prompts", "units", "outcomes", "work", "runs", "jobs", "audit")
SOME = [f"p{row}" for row in range(1000, 250_000, 997)]

_WHERE = "'pack' || i / 256, i % 256, 100, md5(i::text)"
_FILL = f"""
INSERT INTO runs (run, plan, state, opened_at_s, updated_at_s)
    SELECT 'r' || i, 'plan', (ARRAY['done', 'done', 'failed', 'cancelled'])[1 + i % 4], i, i
    FROM generate_series(1, {NUM_RUNS}) i;
INSERT INTO runs (run, plan, state, opened_at_s, updated_at_s, num_admitted, num_refused)
    VALUES ('run', 'plan', 'running', 0, 0, {NUM_PROMPTS}, 0);
INSERT INTO prompts SELECT 'run', i, 'p' || i, {_WHERE} FROM generate_series(0, {NUM_PROMPTS - 1}) i;
INSERT INTO units SELECT 'run', arm, i, 0, '', CASE WHEN i < 200 THEN -2 WHEN i % 1000 = 0 THEN -1 ELSE 0 END,
    CASE WHEN i < 200 OR i % 1000 = 0 THEN '' ELSE 'kept' END, ''
    FROM generate_series(0, {NUM_PROMPTS - 1}) i, unnest(ARRAY['a', 'b']) arm;
INSERT INTO outcomes SELECT 'run', arm, i, 0, '', 0, 'kept', '', {_WHERE}
    FROM generate_series(0, {NUM_PROMPTS - 1}) i, unnest(ARRAY['a', 'b']) arm WHERE i % 1000 <> 0;
INSERT INTO tallies VALUES ('run', 'a', 'kept', '', 499300), ('run', 'b', 'kept', '', 499300);
INSERT INTO work (key, run, pack, pack_offset, pack_length, digest, subject)
    SELECT md5('k' || i), 'run', {_WHERE}, 'p' || i / 2 FROM generate_series(0, {2 * NUM_PROMPTS - 1}) i;
INSERT INTO jobs SELECT 'j' || i, 'plan', (ARRAY['training', 'evaluation'])[1 + i % 2], 'r' || i / 8, 'ann', 'done', 1,
    '{{}}', '', 1, i, i, NULL, NULL, NULL, NULL FROM generate_series(1, {NUM_RUNS}) i;
INSERT INTO audit SELECT i, i, 'ann', 'read', '', '', '', '{{}}', '', '' FROM generate_series(1, {NUM_RUNS}) i
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A ledger with a million units and results, filled in the server and analysed; it is taken away afterwards."""
    url = postgresql_url(tmp_path_factory.mktemp("plans"))
    made = SqlLedger(url)
    begun_s = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        # Foreign keys are checked row by row, which takes minutes and proves nothing here.
        tables = ("prompts", "units", "outcomes")
        for table in tables:
            for (name,) in connection.execute(
                "SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid = %s::regclass", (table,)
            ).fetchall():
                connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
        for statement in _FILL.split(";"):
            connection.execute(statement.encode())
        connection.execute("ANALYZE")
        schema = connection.execute("SELECT current_schema()").fetchone()
    assert time.monotonic() - begun_s < 120
    yield url
    assert schema is not None
    made._database._engine.dispose()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema[0]} CASCADE".encode())


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[SqlLedger]:
    opened = SqlLedger(url)
    yield opened
    await opened.aclose()


@pytest.fixture
async def tables(url: str) -> AsyncIterator[SqlServerTables]:
    opened = SqlServerTables(url)
    yield opened
    await opened.aclose()


async def first_page(rows: AsyncIterator[Any], num_rows: int = 1500) -> int:
    """Reads a page and a half: the later page continues from a key."""
    num_seen = 0
    async for _ in rows:
        num_seen += 1
        if num_seen == num_rows:
            break
    return num_seen


QUESTIONS: dict[str, Callable[[SqlLedger], Awaitable[Any]]] = {
    "open prompts among some": lambda ledger: ledger.open_prompts("run", among=SOME),
    "open prompts of an arm": lambda ledger: ledger.open_prompts("run", arms=["a"]),
    "open units": lambda ledger: ledger.open_units("run"),
    "reopened": lambda ledger: ledger.reopened("run"),
    "reopened of an arm": lambda ledger: ledger.reopened("run", arms=["a"]),
    "outcome counts": lambda ledger: ledger.outcome_counts("run"),
    "unit counts": lambda ledger: ledger.unit_counts("run"),
    "outcomes of an arm": lambda ledger: first_page(ledger.outcomes("run", arm="b")),
    "outcomes of a prompt": lambda ledger: first_page(ledger.outcomes("run", prompt="p4711")),
    "admitted": lambda ledger: first_page(ledger.admitted("run")),
    "take up": lambda ledger: ledger.take_up([f"new {each}" for each in SOME], worker="w"),
    "results": lambda ledger: ledger.results(SOME),
    "about": lambda ledger: first_page(ledger.about("p4711")),
    "intake": lambda ledger: ledger.intake("run"),
    "phases": lambda ledger: ledger.phases("run"),
    "costs": lambda ledger: ledger.costs("run"),
}

LISTINGS: dict[str, Callable[[SqlServerTables], Awaitable[Any]]] = {
    "a run": lambda tables: tables.runs.get("r4711"),
    "the newest runs": lambda tables: tables.runs.page(),
    "runs further back": lambda tables: tables.runs.page(after="r4711"),
    "runs of rare states": lambda tables: tables.runs.page(states=[RunState.RUNNING, RunState.PAUSED]),
    "the newest jobs": lambda tables: tables.jobs.page(),
    "jobs of a kind": lambda tables: tables.jobs.page(kind="training", after="j4711"),
    "jobs of a run": lambda tables: tables.jobs.page(run="r4711"),
    "audit entries": lambda tables: tables.audit.entries(after=10),
}


@pytest.mark.parametrize("question", list(QUESTIONS))
async def test_what_is_asked_of_the_ledger_reads_no_large_table_through(
    ledger: SqlLedger, url: str, question: str
) -> None:
    with statements() as caught:
        await QUESTIONS[question](ledger)
    check(url, caught)


@pytest.mark.parametrize("listing", list(LISTINGS))
async def test_what_is_listed_reads_no_large_table_through(tables: SqlServerTables, url: str, listing: str) -> None:
    with statements() as caught:
        await LISTINGS[listing](tables)
    check(url, caught)


async def test_concluding_reads_no_large_table_through(ledger: SqlLedger, url: str) -> None:
    with statements() as caught:
        await ledger.conclude("run", [outcome(Unit(arm="a", prompt=prompt, sample=0)) for prompt in SOME])
    check(url, caught)


async def test_counting_outcomes_takes_a_watcher_no_time(ledger: SqlLedger) -> None:
    begun_s = time.perf_counter()
    for _ in range(20):
        assert await ledger.outcome_counts("run")
    assert (time.perf_counter() - begun_s) / 20 < 0.05


# ----------------------------------------------------------------------------------------------


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Everything that is sent meanwhile, with its values."""
    caught: list[tuple[str, Any]] = []

    def note(_c: Connection, _cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> None:
        if statement.lstrip().startswith(("SELECT", "UPDATE", "INSERT", "DELETE")):
            caught.append((statement, values))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield caught
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def check(url: str, caught: list[tuple[str, Any]]) -> None:
    """No plan of `caught` reads a large table from end to end, nor far more rows of it than it uses."""
    assert caught
    with psycopg.connect(url) as connection:
        for statement, values in caught:
            values = values[0] if isinstance(values, list) else values
            row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}".encode(), values).fetchone()
            assert row is not None
            for node in nodes(row[0][0]["Plan"]):
                is_large = node.get("Relation Name") in LARGE
                assert not (is_large and node["Node Type"] == "Seq Scan"), f"{node}\n{statement}"
                wasted = node.get("Rows Removed by Filter", 0) * node["Actual Loops"]
                assert not (is_large and wasted > 20_000), f"{node}\n{statement}"
        connection.rollback()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)
