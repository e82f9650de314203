"""Schema 1: runs, prompts, units and their outcomes, work and attempts, phases, costs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Everything that the first release had."""
    op.create_table("schema_version", sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
    _create_runs_and_intake()
    _create_units()
    _create_work()
    op.execute("INSERT INTO schema_version VALUES (1)")


def _create_runs_and_intake() -> None:
    op.create_table(
        "runs",
        sa.Column("run", sa.String, primary_key=True),
        sa.Column("plan", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("num_admitted", sa.Integer),
        sa.Column("num_refused", sa.Integer),
        sa.Column("opened_at_s", sa.Float, nullable=False),
    )
    op.create_table(
        "prompts",
        sa.Column("run", sa.String),
        sa.Column("row", sa.Integer),
        sa.Column("prompt", sa.String, nullable=False),
        *_address(),
        sa.PrimaryKeyConstraint("run", "row"),
        sa.UniqueConstraint("prompt", "run"),
        sa.ForeignKeyConstraint(["run"], ["runs.run"]),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "refused",
        sa.Column("run", sa.String),
        sa.Column("row", sa.Integer),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        *_address(nullable=True),
        sa.PrimaryKeyConstraint("run", "row"),
        sa.ForeignKeyConstraint(["run"], ["runs.run"]),
        sqlite_with_rowid=False,
    )


def _create_units() -> None:
    unit = ("run", "arm", "row", "sample", "variant")
    op.create_table(
        "units",
        *_unit(),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.PrimaryKeyConstraint(*unit),
        sa.ForeignKeyConstraint(["run", "row"], ["prompts.run", "prompts.row"]),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outcomes",
        *_unit(),
        sa.Column("epoch", sa.Integer),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        *_address(),
        sa.PrimaryKeyConstraint(*unit, "epoch"),
        sa.ForeignKeyConstraint(unit, [f"units.{name}" for name in unit]),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tallies",
        sa.Column("run", sa.String),
        sa.Column("arm", sa.String),
        sa.Column("state", sa.String),
        sa.Column("reason", sa.String),
        sa.Column("num_units", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("run", "arm", "state", "reason"),
        sqlite_with_rowid=False,
    )


def _create_work() -> None:
    op.create_table(
        "work",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("run", sa.String, nullable=False),
        *_address(),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempts",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("num_unfinished", sa.Integer, nullable=False),
        sa.Column("worker", sa.String, nullable=False),
        sa.Column("begun_at_s", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "phases",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("run", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        *_address(),
        sa.Column("ended_at_s", sa.Float, nullable=False),
        sa.UniqueConstraint("run", "key"),
    )
    op.create_table(
        "costs",
        sa.Column("run", sa.String),
        sa.Column("stage", sa.String),
        sa.Column("num_items", sa.BigInteger, nullable=False),
        sa.Column("num_prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("num_new_tokens", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("money", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("run", "stage"),
    )


def _address(*, nullable: bool = False) -> list[sa.Column[object]]:
    kinds = {"pack": sa.String, "pack_offset": sa.BigInteger, "pack_length": sa.BigInteger, "digest": sa.String}
    return [sa.Column(name, kind(), nullable=nullable) for name, kind in kinds.items()]


def _unit() -> list[sa.Column[object]]:
    kinds = {"run": sa.String, "arm": sa.String, "row": sa.Integer, "sample": sa.Integer, "variant": sa.String}
    return [sa.Column(name, kind()) for name, kind in kinds.items()]
