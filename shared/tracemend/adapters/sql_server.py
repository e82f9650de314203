"""The server tables over the ledger's database: `kit.server_ports.ServerTables`. Opened by `runtime`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tracemend.adapters.file_leases import FileLeases
from tracemend.adapters.sql_audit import SqlAuditLog
from tracemend.adapters.sql_engine import Database
from tracemend.adapters.sql_jobs import SqlJobs
from tracemend.adapters.sql_leases import SqlLeases
from tracemend.adapters.sql_requests import SqlRequests
from tracemend.adapters.sql_runs import SqlRuns
from tracemend.adapters.sql_uploads import SqlUploads


class SqlServerTables:
    """All tables over one pool of connections. `clock` gives the times, in seconds since 1970."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        """Opens, creates or migrates the database at `url`, blocking; `SetupError` says why that cannot be done."""
        database = Database(url)
        self._database = database
        self.runs = SqlRuns(database, clock=clock)
        self.uploads = SqlUploads(database)
        self.requests = SqlRequests(database, clock=clock)
        self.audit = SqlAuditLog(database, clock=clock)
        self.jobs = SqlJobs(database, clock=clock)
        self.leases: FileLeases | SqlLeases = (
            FileLeases(Path(f"{database.target.database}-leases"))
            if database.is_sqlite
            else SqlLeases(database.connect_options())
        )

    async def aclose(self) -> None:
        """Ends every lease and closes the connections; again is no error."""
        await self.leases.aclose()
        await self._database.aclose()
