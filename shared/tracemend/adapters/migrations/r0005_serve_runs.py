"""Schema 5: what services keep: runs as users see them, uploads, answered requests, audit, jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """New columns of runs have the values of a run that no service submitted."""
    _extend_runs()
    _create_uploads()
    _create_requests()
    _create_audit()
    _create_jobs()


def _extend_runs() -> None:
    for name in ("name", "target", "submitted_by", "reason"):
        op.add_column("runs", sa.Column(name, sa.String, nullable=False, server_default=sa.text("''")))
    op.add_column("runs", sa.Column("labels", sa.String, nullable=False, server_default=sa.text("'{}'")))
    op.add_column("runs", sa.Column("num_rows", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.add_column("runs", sa.Column("revision", sa.BigInteger, nullable=False, server_default=sa.text("1")))
    op.add_column("runs", sa.Column("updated_at_s", sa.Float, nullable=False, server_default=sa.text("0")))
    op.execute("UPDATE runs SET updated_at_s = opened_at_s")
    op.create_index("runs_by_state", "runs", ["state", "opened_at_s", "run"])


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("upload", sa.String, primary_key=True),
        sa.Column("run", sa.String, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("num_expected", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("num_chunks", sa.Integer, nullable=False),
        sa.Column("num_rows", sa.BigInteger, nullable=False),
        sa.Column("is_complete", sa.Boolean, nullable=False),
        sa.UniqueConstraint("run", "number"),
        sa.ForeignKeyConstraint(["run"], ["runs.run"]),
    )
    op.create_table(
        "chunks",
        sa.Column("upload", sa.String),
        sa.Column("sequence", sa.Integer),
        sa.Column("num_rows", sa.BigInteger, nullable=False),
        sa.Column("crc", sa.BigInteger, nullable=False),
        *_address(nullable=False),
        sa.PrimaryKeyConstraint("upload", "sequence"),
        sa.ForeignKeyConstraint(["upload"], ["uploads.upload"]),
    )


def _create_requests() -> None:
    op.create_table(
        "requests",
        sa.Column("principal", sa.String),
        sa.Column("method", sa.String),
        sa.Column("request_id", sa.String),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("response", sa.LargeBinary, nullable=False),
        sa.Column("answered_at_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("principal", "method", "request_id"),
    )
    op.create_index("requests_by_age", "requests", ["answered_at_s"])


def _create_audit() -> None:
    names = ("principal", "action", "resource", "purpose", "request_id", "details", "previous", "digest")
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time_s", sa.Float, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in names),
    )
    op.create_table(
        "audit_head",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
    )
    op.execute("INSERT INTO audit_head VALUES ('head', 0, '')")
    for statement in _append_only(op.get_bind().dialect.name):
        op.execute(statement)


def _append_only(dialect: str) -> list[str]:
    """Statements after which the database itself refuses to change or remove an entry."""
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER audit_{verb.lower()} BEFORE {verb} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
            for verb in ("UPDATE", "DELETE")
        ]
    return [
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$",
        "CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
    ]


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("key", sa.String, primary_key=True),
        *(sa.Column(name, sa.String, nullable=False) for name in ("plan", "kind", "run", "submitted_by", "state")),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("progress", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        sa.Column("updated_at_s", sa.Float, nullable=False),
        *_address(nullable=True),
    )
    for name, columns in {"age": [], "kind": ["kind"], "run": ["run"]}.items():
        op.create_index(f"jobs_by_{name}", "jobs", [*columns, "created_at_s", "key"])


def _address(*, nullable: bool) -> list[sa.Column[object]]:
    kinds = {"pack": sa.String, "pack_offset": sa.BigInteger, "pack_length": sa.BigInteger, "digest": sa.String}
    return [sa.Column(name, kind(), nullable=nullable) for name, kind in kinds.items()]
