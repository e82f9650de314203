"""Ledgers as old releases wrote them, in the SQL of those releases, with a row in every table."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import Connection, create_engine, make_url, text

_TABLES = """
CREATE TABLE schema_version (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE runs (
    run VARCHAR NOT NULL, plan VARCHAR NOT NULL, state VARCHAR NOT NULL, num_admitted INTEGER, num_refused INTEGER,
    opened_at_s FLOAT NOT NULL, PRIMARY KEY (run));
CREATE TABLE prompts (
    run VARCHAR NOT NULL, row INTEGER NOT NULL, prompt VARCHAR NOT NULL, pack VARCHAR NOT NULL,
    pack_offset BIGINT NOT NULL, pack_length BIGINT NOT NULL, digest VARCHAR NOT NULL, PRIMARY KEY (run, row),
    UNIQUE (prompt, run), FOREIGN KEY (run) REFERENCES runs (run)) {compact};
CREATE TABLE refused (
    run VARCHAR NOT NULL, row INTEGER NOT NULL, reason VARCHAR NOT NULL, detail VARCHAR NOT NULL,
    source VARCHAR NOT NULL, pack VARCHAR, pack_offset BIGINT, pack_length BIGINT, digest VARCHAR,
    PRIMARY KEY (run, row), FOREIGN KEY (run) REFERENCES runs (run)) {compact};
CREATE TABLE units (
    run VARCHAR NOT NULL, arm VARCHAR NOT NULL, row INTEGER NOT NULL, sample INTEGER NOT NULL,
    variant VARCHAR NOT NULL, epoch INTEGER NOT NULL, state VARCHAR NOT NULL, reason VARCHAR NOT NULL,
    PRIMARY KEY (run, arm, row, sample, variant),
    FOREIGN KEY (run, row) REFERENCES prompts (run, row)) {compact};
CREATE TABLE outcomes (
    run VARCHAR NOT NULL, arm VARCHAR NOT NULL, row INTEGER NOT NULL, sample INTEGER NOT NULL,
    variant VARCHAR NOT NULL, epoch INTEGER NOT NULL, state VARCHAR NOT NULL, reason VARCHAR NOT NULL,
    pack VARCHAR NOT NULL, pack_offset BIGINT NOT NULL, pack_length BIGINT NOT NULL, digest VARCHAR NOT NULL,
    PRIMARY KEY (run, arm, row, sample, variant, epoch),
    FOREIGN KEY (run, arm, row, sample, variant) REFERENCES units (run, arm, row, sample, variant)) {compact};
CREATE TABLE tallies (
    run VARCHAR NOT NULL, arm VARCHAR NOT NULL, state VARCHAR NOT NULL, reason VARCHAR NOT NULL,
    num_units INTEGER NOT NULL, PRIMARY KEY (run, arm, state, reason)) {compact};
CREATE TABLE work (
    key VARCHAR NOT NULL, run VARCHAR NOT NULL, pack VARCHAR NOT NULL, pack_offset BIGINT NOT NULL,
    pack_length BIGINT NOT NULL, digest VARCHAR NOT NULL, PRIMARY KEY (key)) {compact};
CREATE TABLE attempts (
    key VARCHAR NOT NULL, num_unfinished INTEGER NOT NULL, worker VARCHAR NOT NULL, begun_at_s FLOAT NOT NULL,
    PRIMARY KEY (key)) {compact};
CREATE TABLE phases (
    number {serial} NOT NULL, run VARCHAR NOT NULL, key VARCHAR NOT NULL, name VARCHAR NOT NULL,
    pack VARCHAR NOT NULL, pack_offset BIGINT NOT NULL, pack_length BIGINT NOT NULL, digest VARCHAR NOT NULL,
    ended_at_s FLOAT NOT NULL, PRIMARY KEY (number), UNIQUE (run, key));
CREATE TABLE costs (
    run VARCHAR NOT NULL, stage VARCHAR NOT NULL, num_items BIGINT NOT NULL, num_prompt_tokens BIGINT NOT NULL,
    num_new_tokens BIGINT NOT NULL, seconds FLOAT NOT NULL, money FLOAT NOT NULL, PRIMARY KEY (run, stage))
"""

_ROWS = """
INSERT INTO schema_version VALUES (1);
INSERT INTO runs VALUES ('run', 'plan', 'correcting', 2, 1, 1.5);
INSERT INTO prompts VALUES ('run', 0, 'p0', 'prompts-pack', 0, 7, 'd0');
INSERT INTO prompts VALUES ('run', 1, 'p1', 'prompts-pack', 7, 7, 'd1');
INSERT INTO refused VALUES ('run', 2, 'duplicate', 'p0', 'file', NULL, NULL, NULL, NULL);
INSERT INTO units VALUES ('run', 'arm', 0, 0, '', 0, 'kept', '');
INSERT INTO units VALUES ('run', 'arm', 1, 0, '', -1, '', '');
INSERT INTO outcomes VALUES ('run', 'arm', 0, 0, '', 0, 'kept', '', 'outcomes-pack', 0, 7, 'd2');
INSERT INTO tallies VALUES ('run', 'arm', 'kept', '', 1);
INSERT INTO tallies VALUES ('run', 'arm', '', '', 1);
INSERT INTO work VALUES ('k', 'run', 'work-pack', 3, 7, 'd3');
INSERT INTO attempts VALUES ('crashed', 2, 'worker', 2.5);
INSERT INTO phases (run, key, name, pack, pack_offset, pack_length, digest, ended_at_s)
    VALUES ('run', 'phase', 'train', 'phases-pack', 0, 7, 'd4', 3.5);
INSERT INTO costs VALUES ('run', 'judge', 3, 30, 15, 1.5, 0.75)
"""


def write_first_release(url: str) -> None:
    """Make the ledger at `url`, whose file or schema is empty, one of schema 1."""
    on_sqlite = url.startswith("sqlite:")
    words = {"compact": "WITHOUT ROWID", "serial": "INTEGER"} if on_sqlite else {"compact": "", "serial": "SERIAL"}
    if on_sqlite:
        Path(url.removeprefix("sqlite:")).parent.mkdir(parents=True, exist_ok=True)
    with connect(url) as connection:
        for statement in (*_TABLES.format(**words).split(";"), *_ROWS.split(";")):
            connection.execute(text(statement))


def write_second_schema(url: str) -> None:
    """Make the ledger at `url`, whose file or schema is empty, one of schema 2, by that release's own step."""
    write_first_release(url)
    with connect(url) as connection:
        connection.execute(text("ALTER TABLE costs ADD COLUMN num_cached_tokens BIGINT NOT NULL DEFAULT 0"))
        connection.execute(text("UPDATE schema_version SET version = 2"))


def connect(url: str) -> AbstractContextManager[Connection]:
    """A connection to the ledger's database, which commits when its context ends well."""
    scheme, _, rest = url.partition(":")
    target = f"sqlite:///{rest}" if scheme == "sqlite" else f"postgresql+psycopg:{rest}"
    return create_engine(make_url(target)).begin()
