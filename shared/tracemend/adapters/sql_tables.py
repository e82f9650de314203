"""The ledger's tables. Those that only services have are in `sql_server_tables`, over the same `METADATA`.

Read by the `sql_` modules alone. The statements over these tables are the same for SQLite and PostgreSQL. Databases are
made by the revisions in `migrations`, not from here: a change here needs a revision that does the same.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    text,
)

METADATA = MetaData()


def address_columns(*, nullable: bool = False) -> list[Column[object]]:
    """Where a record lies in the store: the fields of `kit.ports.Address`."""
    kinds = {"pack": String, "pack_offset": BigInteger, "pack_length": BigInteger, "digest": String}
    return [Column(name, kind(), nullable=nullable) for name, kind in kinds.items()]


SCHEMA = Table("schema_version", METADATA, Column("version", Integer, primary_key=True, autoincrement=False))
"""What releases before Alembic counted in; see `migrations`."""

_SAID_OF_RUNS = ("name", "target", "submitted_by", "reason")

RUNS = Table(
    "runs",
    METADATA,
    Column("run", String, primary_key=True),
    Column("plan", String, nullable=False),
    Column("state", String, nullable=False),
    Column("num_admitted", Integer),  # both are null until the intake is sealed
    Column("num_refused", Integer),
    Column("opened_at_s", Float, nullable=False),
    # The rest is for runs that a service looks after; `revision` counts the changes of the row.
    *(Column(name, String, nullable=False, server_default=text("''")) for name in _SAID_OF_RUNS),
    Column("labels", String, nullable=False, server_default=text("'{}'")),
    Column("num_rows", BigInteger, nullable=False, server_default=text("0")),
    Column("revision", BigInteger, nullable=False, server_default=text("1")),
    Column("updated_at_s", Float, nullable=False, server_default=text("0")),
    Index("runs_by_age", "opened_at_s", "run"),
    Index("runs_by_state", "state", "opened_at_s", "run"),
)

PROMPTS = Table(
    "prompts",
    METADATA,
    Column("run", String),
    Column("row", Integer),
    Column("prompt", String, nullable=False),
    *address_columns(),
    PrimaryKeyConstraint("run", "row"),
    UniqueConstraint("prompt", "run"),
    ForeignKeyConstraint(["run"], ["runs.run"]),
    sqlite_with_rowid=False,
)

REFUSED = Table(
    "refused",
    METADATA,
    Column("run", String),
    Column("row", Integer),
    Column("reason", String, nullable=False),
    Column("detail", String, nullable=False),
    Column("source", String, nullable=False),
    *address_columns(nullable=True),
    PrimaryKeyConstraint("run", "row"),
    ForeignKeyConstraint(["run"], ["runs.run"]),
    sqlite_with_rowid=False,
)

UNIT = ("run", "arm", "row", "sample", "variant")
"""The columns that name a planned unit; `row` stands for its prompt, so that keys are short and lie in row order."""

# `epoch`, `state` and `reason` are those of the outcome that counts, the one of the highest epoch. While the unit is
# open state and reason are empty, and `epoch` is -1 - e for the epoch e that it is open in: -1 in the first.
UNITS = Table(
    "units",
    METADATA,
    Column("run", String),
    Column("arm", String),
    Column("row", Integer),
    Column("sample", Integer),
    Column("variant", String),
    Column("epoch", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("reason", String, nullable=False),
    PrimaryKeyConstraint(*UNIT),
    ForeignKeyConstraint(["run", "row"], ["prompts.run", "prompts.row"]),
    # What is open, and what is open again: indexes that empty as the run goes on.
    Index("units_open", *UNIT, sqlite_where=text("epoch < 0"), postgresql_where=text("epoch < 0")),
    Index("units_open_again", *UNIT, sqlite_where=text("epoch < -1"), postgresql_where=text("epoch < -1")),
    sqlite_with_rowid=False,
)

OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("run", String),
    Column("arm", String),
    Column("row", Integer),
    Column("sample", Integer),
    Column("variant", String),
    Column("epoch", Integer),
    Column("state", String, nullable=False),
    Column("reason", String, nullable=False),
    *address_columns(),
    PrimaryKeyConstraint(*UNIT, "epoch"),
    ForeignKeyConstraint(UNIT, [f"units.{name}" for name in UNIT]),
    sqlite_with_rowid=False,
)

# How many units of an arm stand where, kept up by the transactions that move them: progress asks every second.
TALLIES = Table(
    "tallies",
    METADATA,
    Column("run", String),
    Column("arm", String),
    Column("state", String),  # empty for open units
    Column("reason", String),
    Column("num_units", Integer, nullable=False),
    PrimaryKeyConstraint("run", "arm", "state", "reason"),
    sqlite_with_rowid=False,
)

WORK = Table(
    "work",
    METADATA,
    Column("key", String, primary_key=True),
    Column("run", String, nullable=False),  # the run that paid for it; others share it
    *address_columns(),
    # The prompt that it is about; empty where that was not noted.
    Column("subject", String, nullable=False, server_default=text("''")),
    Index("work_by_subject", "subject", "key"),
    sqlite_with_rowid=False,
)

ATTEMPTS = Table(
    "attempts",
    METADATA,
    Column("key", String, primary_key=True),
    Column("num_unfinished", Integer, nullable=False),
    Column("worker", String, nullable=False),  # the last one that began
    Column("begun_at_s", Float, nullable=False),
    sqlite_with_rowid=False,
)

PHASES = Table(
    "phases",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),  # the order they ended in
    Column("run", String, nullable=False),
    Column("key", String, nullable=False),
    Column("name", String, nullable=False),
    *address_columns(),
    Column("ended_at_s", Float, nullable=False),
    UniqueConstraint("run", "key"),
)

COSTS = Table(
    "costs",
    METADATA,
    Column("run", String),
    Column("stage", String),
    Column("num_items", BigInteger, nullable=False),
    Column("num_prompt_tokens", BigInteger, nullable=False),
    Column("num_new_tokens", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("money", Float, nullable=False),
    Column("num_cached_tokens", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("run", "stage"),
)
