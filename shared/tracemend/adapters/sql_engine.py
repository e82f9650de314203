"""The database under the ledger and the server tables: opening, transactions in worker threads, errors in our words.

Used by `sql_ledger` and `sql_server`. A transaction that the database gave up to let another one through runs again by
itself; what cannot be had now, a server that restarts included, is `Retry`. SQLite runs in one thread with write-ahead
logging; a write takes the database's write lock when it begins, so that processes that share the file wait for one
another instead of failing half-way. SQLite's WAL needs shared memory: the file must lie on a local disk, not on a
network share.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url

from tracemend.adapters.sql_schema import bring_up_to_date
from tracemend.kit.errors import Retry, SetupError

T = TypeVar("T")
Work = Callable[[Connection], T]

_BUSY_TIMEOUT_S = 60.0
_NUM_CONNECTIONS = 4
_CACHE_BYTES = 32 * 2**20
_PASSING = ("locked", "is busy", "disk is full", "disk I/O error")
_RETRY_AFTER_S = 1.0
_GIVEN_UP = {"40001", "40P01"}
"""What PostgreSQL calls a transaction that it ended for another one's sake: serialisation failure, deadlock."""
_NUM_TRIES = 5
_CONNECTING = {
    "application_name": "tracemend",
    # A database that was made without an encoding sends bytes otherwise.
    "client_encoding": "utf8",
    "connect_timeout": 10,
    # A server that vanished is noticed in half a minute, whatever the system's defaults are.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""What libpq is told where the URL is silent."""


class Database:
    """Transactions on the database at `url`, off the event loop. Opening migrates it or says why it cannot be used."""

    def __init__(self, url: str) -> None:
        self.target = target_of(url)
        self.shown = self.target.render_as_string(hide_password=True)
        self.is_sqlite = self.target.get_backend_name() == "sqlite"
        self._threads = ThreadPoolExecutor(1 if self.is_sqlite else _NUM_CONNECTIONS, thread_name_prefix="ledger")
        self._is_closed = False
        try:
            self._engine = self._threads.submit(self._open).result()
        except BaseException:
            self._threads.shutdown()
            raise

    async def read(self, work: Work[T]) -> T:
        """Run `work` in a transaction that changes nothing."""
        return await self._run(work, writes=False)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction that is durable when this returns; `Retry` if the database is busy or full."""
        return await self._run(work, writes=True)

    def connect_options(self) -> dict[str, Any]:
        """What the driver is called with, for a connection that is nobody else's."""
        return dict(self._engine.dialect.create_connect_args(self._engine.url)[1])

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
        num_tries = 1
        while True:
            try:
                return self._transact_once(work, writes)
            except exc.DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) in _GIVEN_UP and num_tries < _NUM_TRIES:
                    num_tries += 1
                elif self._may_pass(error):
                    is_full = self.is_sqlite and "is full" in str(error.orig)
                    what = "has no room: free some, and the same command goes on" if is_full else "is out of reach"
                    reason = f"the ledger at {self.shown} {what}: {error.orig}"
                    raise Retry(reason, after_s=_RETRY_AFTER_S) from error
                else:
                    raise

    def _transact_once(self, work: Work[T], writes: bool) -> T:
        with self._engine.connect().execution_options(tracemend_writes=writes) as connection, connection.begin():
            return work(connection)

    def _may_pass(self, error: exc.DBAPIError) -> bool:
        """Whether the same transaction may succeed later."""
        if not self.is_sqlite:
            return error.connection_invalidated or isinstance(error, exc.OperationalError)
        return isinstance(error, exc.OperationalError) and any(said in str(error.orig) for said in _PASSING)

    def _remedy(self) -> str:
        folder = Path(self.target.database or "").parent
        if not self.is_sqlite or os.access(folder, os.W_OK):
            return ""
        return f"; looking takes a writable folder as well, which {folder} is not: look at a copy of it"

    def _open(self) -> Engine:
        try:
            if self.is_sqlite:
                Path(self.target.database or "").parent.mkdir(parents=True, exist_ok=True)
            engine = _sqlite_engine(self.target) if self.is_sqlite else _server_engine(self.target)
            with engine.connect().execution_options(tracemend_writes=True) as connection, connection.begin():
                bring_up_to_date(connection, self.shown)
        except (exc.DBAPIError, exc.NoSuchModuleError, OSError) as error:
            reason = error.orig if isinstance(error, exc.DBAPIError) else error
            raise SetupError(f"cannot open the ledger at {self.shown}: {reason}{self._remedy()}") from error
        return engine


def target_of(url: str) -> URL:
    """`sqlite:PATH` or `postgresql://…` as SQLAlchemy names it."""
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        return URL.create("sqlite", database=rest)
    if scheme in {"postgresql", "postgres"} and rest.startswith("//"):
        return make_url(f"postgresql+psycopg:{rest}")
    raise SetupError(
        f"{scheme or 'nothing'!r} is no ledger: write sqlite:/path/ledger.db or postgresql://host/database"
    )


def _server_engine(target: URL) -> Engine:
    return create_engine(
        target.update_query_dict({name: str(value) for name, value in _CONNECTING.items() if name not in target.query}),
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=_NUM_CONNECTIONS,
        max_overflow=0,
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
