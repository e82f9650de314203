"""Which schema a database has, and the way to the one that this release works with.

Called by `sql_engine` when a database is opened. The revisions in `migrations` are the only way to a schema, for new
databases as for old ones. A ledger from before Alembic counts its schema in `schema_version`; it is stamped with the
revision of the same number and goes on from there. Of several that open a database at the same moment one migrates it
and the others find it migrated.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from tracemend.kit.errors import SetupError

HEAD = "0005"
"""The revision that the statements of this release are written for."""

_FOLDER = Path(__file__).with_name("migrations")
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('tracemend.schema.' || current_schema(), 0))")


def bring_up_to_date(connection: Connection, name: str, *, head: str = HEAD, folder: Path = _FOLDER) -> None:
    """Bring the database to revision `head` of `folder` in the transaction that the caller has begun for writing;
    `SetupError`, which calls the database `name`, where that cannot be done."""
    if _revision_of(connection, name) == head:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK)
    found = _revision_of(connection, name)
    if found != head:
        _migrate(connection, name, found, head, folder)


def _revision_of(connection: Connection, name: str) -> str:
    """The revision that the database has; empty for an empty database."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return ""
    if {"alembic_version", "work"} <= tables:
        return str(connection.scalar(text("SELECT version_num FROM alembic_version")))
    found = connection.scalar(text("SELECT version FROM schema_version")) if "schema_version" in tables else None
    if found is None:
        raise SetupError(f"{name} is a database of something else; name a file or database of its own for the ledger")
    return f"{found:04}"


def _migrate(connection: Connection, name: str, found: str, head: str, folder: Path) -> None:
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext, MigrationStep
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(folder), version_locations=[str(folder)])
    if found and found not in {script.revision for script in scripts.walk_revisions()}:
        raise SetupError(_refusal(name, found, head))

    def steps(heads: tuple[str, ...], _: MigrationContext) -> list[MigrationStep]:
        way = list(scripts.iterate_revisions(head, heads or None))
        return [MigrationStep.upgrade_from_script(scripts.revision_map, script) for script in reversed(way)]

    context = MigrationContext.configure(connection, opts={"fn": steps})
    if found and not context.get_current_heads():
        context.stamp(scripts, found)
    with Operations.context(context):
        context.run_migrations()


def _refusal(name: str, found: str, head: str) -> str:
    if found > head:
        return (
            f"the ledger at {name} has schema {found}, written by a newer tracemend; this one knows up to {head}. "
            "Upgrade tracemend, or start in another folder or database"
        )
    return (
        f"the ledger at {name} has schema {found}, which this tracemend cannot migrate. Finish the run with the "
        "release that began it, or start in another folder or database"
    )
