"""The schema of the ledger's database: revisions, tables and the release agree, and what is unknown is refused."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from tests.contract.ledgers import URLS, sqlite_url
from tests.contract.old_ledgers import connect

from tracemend.adapters import migrations, sql_schema, sql_server_tables, sql_tables
from tracemend.adapters.sql_ledger import SqlLedger
from tracemend.adapters.sql_server import SqlServerTables
from tracemend.kit.errors import SetupError

FOLDER = Path(migrations.__file__).parent
NEXT = '''
"""A revision of tomorrow."""
from alembic import op
revision, down_revision = "{number}", "{before}"
def upgrade(): op.execute("{statement}")
'''


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.servers) if name != "sqlite" else name for name in URLS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return URLS[request.param](tmp_path)


async def test_the_revisions_make_the_tables_that_statements_are_written_for(url: str) -> None:
    await SqlLedger(url).aclose()
    with connect(url) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert sql_server_tables.JOBS.metadata is sql_tables.METADATA
        differences = [each for each in compare_metadata(context, sql_tables.METADATA) if not of_alembic(each)]
        assert differences == []
        indexes = {
            index["name"] for table in ("units", "work", "runs") for index in inspect(connection).get_indexes(table)
        }
        assert {"units_open", "units_open_again", "work_by_subject", "runs_by_age", "runs_by_state"} <= indexes


def of_alembic(difference: Any) -> bool:
    return bool(difference[0] == "remove_table" and difference[1].name == "alembic_version")


def test_the_release_works_with_the_last_revision_and_each_follows_the_one_before() -> None:
    scripts = ScriptDirectory(str(FOLDER), version_locations=[str(FOLDER)])
    numbers = [script.revision for script in scripts.walk_revisions()]
    assert numbers == sorted(numbers, reverse=True)
    assert scripts.get_heads() == [sql_schema.HEAD] == numbers[:1]
    names = {path.name for path in FOLDER.glob("r*.py")}
    assert {re.sub(r"r(\d{4})_.*", r"\1", name) for name in names} == set(numbers)


async def test_several_programs_may_open_a_new_database_at_the_same_moment(url: str) -> None:
    opened: list[SqlLedger | SqlServerTables] = []
    kinds = [SqlLedger, SqlServerTables] * 3
    threads = [threading.Thread(target=lambda kind=kind: opened.append(kind(url))) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(opened) == 6
    for each in opened:
        await each.aclose()
    with connect(url) as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [(sql_schema.HEAD,)]


async def test_a_ledger_of_a_newer_release_is_refused(url: str) -> None:
    await SqlLedger(url).aclose()
    with connect(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SetupError, match=f"schema 9999, written by a newer tracemend; .* up to {sql_schema.HEAD}"):
        SqlLedger(url)


async def test_a_ledger_that_no_revision_starts_from_is_refused(url: str) -> None:
    await SqlLedger(url).aclose()
    with connect(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(SetupError, match="schema 0000, which this tracemend cannot migrate"):
        SqlLedger(url)


async def test_a_release_from_before_alembic_sees_a_newer_ledger(tmp_path: Path) -> None:
    """It compares this number with 3, the last that it knows, and says that the ledger is a newer release's."""
    await SqlLedger(sqlite_url(tmp_path)).aclose()
    with connect(sqlite_url(tmp_path)) as connection:
        assert connection.scalar(text("SELECT version FROM schema_version")) > 3


async def test_an_older_ledger_is_migrated_step_by_step_and_keeps_its_rows(url: str, tmp_path: Path) -> None:
    ledger = SqlLedger(url)
    await ledger.open_run("r", plan="p")
    await ledger.aclose()
    folder = tomorrow(
        tmp_path,
        "ALTER TABLE runs ADD COLUMN title VARCHAR NOT NULL DEFAULT ''",
        "UPDATE runs SET title = 'run ' || run",
    )
    with connect(url) as connection:
        sql_schema.bring_up_to_date(connection, "it", head="9002", folder=folder)
        assert connection.execute(text("SELECT run, title FROM runs")).all() == [("r", "run r")]
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9002"


@pytest.mark.servers
async def test_a_migration_that_fails_half_way_leaves_everything_as_it_was(tmp_path: Path) -> None:
    url = URLS["postgresql"](tmp_path)
    await SqlLedger(url).aclose()
    folder = tomorrow(tmp_path, "ALTER TABLE runs ADD COLUMN title VARCHAR", "UPDATE nothing SET x = 1")
    with pytest.raises(Exception, match="nothing"), connect(url) as connection:
        sql_schema.bring_up_to_date(connection, "it", head="9002", folder=folder)
    with connect(url) as connection:
        assert "title" not in {column["name"] for column in inspect(connection).get_columns("runs")}
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == sql_schema.HEAD
    await SqlLedger(url).aclose()


def tomorrow(tmp_path: Path, *statements: str) -> Path:
    """The revisions, with two more."""
    folder = tmp_path / "migrations"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for number, before, statement in zip(("9001", "9002"), (sql_schema.HEAD, "9001"), statements, strict=True):
        text_of_it = NEXT.format(number=number, before=before, statement=statement)
        (folder / f"r{number}_tomorrow.py").write_text(text_of_it)
    return folder


def test_a_file_that_only_looks_like_a_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
    with pytest.raises(SetupError, match="something else"):
        SqlLedger(f"sqlite:{path}")
