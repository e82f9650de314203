"""The tables that only services have, beside the ledger's and over the same `METADATA`.

Read by the `sql_` modules of the server tables and by the ledger's `referenced`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)

from tracemend.adapters.sql_tables import METADATA, address_columns

UPLOADS = Table(
    "uploads",
    METADATA,
    Column("upload", String, primary_key=True),
    Column("run", String, nullable=False),
    Column("number", Integer, nullable=False),  # the order they began in, within the run
    Column("num_expected", BigInteger, nullable=False),
    Column("digest", String, nullable=False),
    Column("num_chunks", Integer, nullable=False),
    Column("num_rows", BigInteger, nullable=False),
    Column("is_complete", Boolean, nullable=False),
    UniqueConstraint("run", "number"),
    ForeignKeyConstraint(["run"], ["runs.run"]),
)

CHUNKS = Table(
    "chunks",
    METADATA,
    Column("upload", String),
    Column("sequence", Integer),
    Column("num_rows", BigInteger, nullable=False),
    Column("crc", BigInteger, nullable=False),
    *address_columns(),
    PrimaryKeyConstraint("upload", "sequence"),
    ForeignKeyConstraint(["upload"], ["uploads.upload"]),
)

REQUESTS = Table(
    "requests",
    METADATA,
    Column("principal", String),
    Column("method", String),
    Column("request_id", String),
    Column("digest", String, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Column("answered_at_s", Float, nullable=False),
    PrimaryKeyConstraint("principal", "method", "request_id"),
    Index("requests_by_age", "answered_at_s"),
)

_SAID_OF_ENTRIES = ("principal", "action", "resource", "purpose", "request_id", "details", "previous", "digest")

# A trigger refuses to change or remove rows; see the revision that makes it.
AUDIT = Table(
    "audit",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("time_s", Float, nullable=False),
    *(Column(name, String, nullable=False) for name in _SAID_OF_ENTRIES),
)

# One row: where the chain ends. Who appends holds it, so entries follow one another.
AUDIT_HEAD = Table(
    "audit_head",
    METADATA,
    Column("name", String, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("digest", String, nullable=False),
)

_SAID_OF_JOBS = ("plan", "kind", "run", "submitted_by", "state")

JOBS = Table(
    "jobs",
    METADATA,
    Column("key", String, primary_key=True),
    *(Column(name, String, nullable=False) for name in _SAID_OF_JOBS),
    Column("attempt", Integer, nullable=False),
    Column("progress", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("updated_at_s", Float, nullable=False),
    *address_columns(nullable=True),  # of the result of a job that is done
    Index("jobs_by_age", "created_at_s", "key"),
    Index("jobs_by_kind", "kind", "created_at_s", "key"),
    Index("jobs_by_run", "run", "created_at_s", "key"),
)
