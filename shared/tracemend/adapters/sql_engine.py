"""The database under the SQL ledger: opening, migrating, transactions in worker threads, errors in our own words.

Used by `sql_ledger` alone. SQLite runs in one thread with write-ahead logging; a write takes the database's write lock
when it begins, so that processes that share the file wait for one another instead of failing half-way. SQLite's WAL
needs shared memory: the file must lie on a local disk, not on a network share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, insert, inspect, make_url, select, update

from tracemend.adapters import sql_tables
from tracemend.kit.errors import Retry, SetupError

T = TypeVar("T")
Work = Callable[[Connection], T]

_BUSY_TIMEOUT_S = 60.0
_SERVER_THREADS = 8
_CACHE_BYTES = 32 * 2**20
_PASSING = ("locked", "is busy", "disk is full", "disk I/O error")
_RETRY_AFTER_S = 1.0


class Database:
    """Transactions on the database at `url`, off the event loop. Opening migrates it or says why it cannot be used."""

    def __init__(self, url: str) -> None:
        target = _target(url)
        self._shown = target.render_as_string(hide_password=True)
        self._is_sqlite = target.get_backend_name() == "sqlite"
        threads = 1 if self._is_sqlite else _SERVER_THREADS
        self._is_closed = False
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="ledger")
        try:
            self._engine = self._threads.submit(self._open, target).result()
        except BaseException:
            self._threads.shutdown()
            raise

    async def read(self, work: Work[T]) -> T:
        """Run `work` in a transaction that changes nothing."""
        return await self._run(work, writes=False)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction that is durable when this returns; `Retry` if the database is busy or full."""
        return await self._run(work, writes=True)

    async def aclose(self) -> None:
        """Close the connections, after what has been asked for is done; again is no error."""
        if self._is_closed:
            return
        self._is_closed = True
        await asyncio.get_running_loop().run_in_executor(self._threads, self._engine.dispose)
        self._threads.shutdown()

    async def _run(self, work: Work[T], *, writes: bool) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._transact, work, writes)

    def _transact(self, work: Work[T], writes: bool) -> T:
        try:
            with self._engine.connect().execution_options(tracemend_writes=writes) as connection, connection.begin():
                return work(connection)
        except exc.OperationalError as error:
            if error.connection_invalidated or not self._is_sqlite or any(p in str(error.orig) for p in _PASSING):
                raise Retry(
                    f"the ledger at {self._shown} is out of reach: {error.orig}", after_s=_RETRY_AFTER_S
                ) from error
            raise

    def _open(self, target: URL) -> Engine:
        try:
            if self._is_sqlite:
                Path(target.database or "").parent.mkdir(parents=True, exist_ok=True)
            engine = (
                _sqlite_engine(target)
                if self._is_sqlite
                else create_engine(target, hide_parameters=True, pool_pre_ping=True)
            )
            with engine.connect().execution_options(tracemend_writes=True) as connection, connection.begin():
                bring_up_to_date(connection, self._shown)
        except (exc.DBAPIError, exc.NoSuchModuleError, OSError) as error:
            reason = error.orig if isinstance(error, exc.DBAPIError) else error
            raise SetupError(f"cannot open the ledger at {self._shown}: {reason}") from error
        return engine


def bring_up_to_date(
    connection: Connection,
    name: str,
    *,
    version: int = sql_tables.VERSION,
    migrations: Mapping[int, Callable[[Connection], None]] = sql_tables.MIGRATIONS,
) -> None:
    """Create the tables of `version`, or migrate to them step by step; `SetupError` where that cannot be done."""
    schema = sql_tables.SCHEMA
    tables = inspect(connection).get_table_names()
    if not tables:
        sql_tables.METADATA.create_all(connection)
        connection.execute(insert(schema).values(version=version))
        return
    # Locked: of several that open an old ledger at the same moment, one migrates it and the others find it migrated.
    found = connection.scalar(select(schema.c.version).with_for_update()) if schema.name in tables else None
    if found is None:
        raise SetupError(f"{name} is a database of something else; name a file or database of its own for the ledger")
    if found > version:
        raise SetupError(
            f"the ledger at {name} has schema {found}, written by a newer tracemend; this one knows up to {version}. "
            "Upgrade tracemend, or start in another folder"
        )
    for step in range(found, version):
        if step not in migrations:
            raise SetupError(
                f"the ledger at {name} has schema {found}, which this tracemend cannot migrate. Finish the run with "
                "the release that began it, or start in another folder"
            )
        migrations[step](connection)
        connection.execute(update(schema).values(version=step + 1))


def _target(url: str) -> URL:
    """`sqlite:PATH` or `postgresql://…` as SQLAlchemy names it."""
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        return URL.create("sqlite", database=rest)
    if scheme in {"postgresql", "postgres"} and rest.startswith("//"):
        return make_url(f"postgresql+psycopg:{rest}")
    raise SetupError(
        f"{scheme or 'nothing'!r} is no ledger: write sqlite:/path/ledger.db or postgresql://host/database"
    )


def _sqlite_engine(target: URL) -> Engine:
    engine = create_engine(target, hide_parameters=True, connect_args={"timeout": _BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        _use_wal(connection)
        # NORMAL leaves the last commits in the system's cache: safe against any kill, not against a power cut. Syncing
        # them costs little beside the store's own syncs.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = {-_CACHE_BYTES // 1024}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("tracemend_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _use_wal(connection: Any) -> None:
    """Switch to write-ahead logging; SQLite does not wait for others here by itself."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except connection.OperationalError as busy:
            if "locked" not in str(busy) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
