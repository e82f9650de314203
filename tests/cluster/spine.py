"""The six services as real processes over real servers: what the tests of the cluster and of chaos stand on.

`async with Spine.on_servers(folder)` has a namespace, a bucket and a schema of its own, gone again at the end. Services
are started and killed by name; runs are submitted as users do.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.contract.ledgers import postgresql_url
from tests.contract.s3_buckets import new_bucket
from tests.kafka_topics_for_tests import remove_namespace
from tests.needs import needs_server

from tracemend.adapters.kafka_clients import settings_of
from tracemend.cli.submitting import rows_of
from tracemend.client.aio import AsyncClient
from tracemend.embedded.plan import resolve
from tracemend.embedded.runfile import RunFile
from tracemend.embedded.workspace import Workspace, connect_workspace
from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import RunRecord, ServerTables
from tracemend.runtime.opening import open_server_tables, open_topic_keeper
from tracemend.topics import of_targets

SERVICES = ("ingestion", "generator", "judge", "corrector", "trainer", "evaluator")
_START = "import sys; from tracemend.cli.serve import serve; serve(sys.argv[1], config=None, check=False)"


@dataclasses.dataclass(slots=True, kw_only=True)
class Spine:
    """A cluster of one test's own."""

    folder: Path
    bus: str
    store: str
    ledger: str
    target: str
    tables: ServerTables
    workspace: Workspace
    """The cluster's store and ledger, to look at."""
    processes: dict[str, subprocess.Popen[bytes]] = dataclasses.field(default_factory=dict)
    ports: dict[str, int] = dataclasses.field(default_factory=dict)
    """Of gRPC, by service."""
    settings: dict[str, str] = dataclasses.field(default_factory=dict)
    """More settings of every service, as environment variables."""
    own_settings: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    """Of single services, which go before."""
    credentials: dict[str, Any] = dataclasses.field(default_factory=lambda: {"plaintext": True})
    """What `client` shows, and whom it trusts."""

    @classmethod
    @asynccontextmanager
    async def on_servers(
        cls, folder: Path, *, target: str = "null", session_s: int = 30, **settings: str
    ) -> AsyncIterator[Spine]:
        """A spine with topics, bucket and schema, and nothing running. `settings` are environment variables; a service
        that dies is missed after `session_s`."""
        kafka = needs_server("KAFKA_BOOTSTRAP_SERVERS")
        bus = f"kafka:{kafka}?namespace=t{secrets.token_hex(4)}-&session_s={session_s}"
        async with AsyncExitStack() as stack:
            bucket = await stack.enter_async_context(new_bucket())
            store = f"s3:{bucket.settings.bucket}"
            ledger = postgresql_url(folder)
            stack.callback(drop_schema, ledger)
            keeper = open_topic_keeper(bus, replication=1, min_isr=1)
            topics = [dataclasses.replace(topic, partitions=4) for topic in of_targets([target])]
            await keeper.apply(topics)
            await keeper.aclose()
            stack.push_async_callback(asyncio.to_thread, remove_namespace, settings_of(bus))
            workspace = await stack.enter_async_context(
                connect_workspace(folder / "look", store=store, ledger=ledger, worker="test")
            )
            tables = open_server_tables(ledger)
            stack.push_async_callback(tables.aclose)
            spine = cls(
                folder=folder,
                bus=bus,
                store=store,
                ledger=ledger,
                target=target,
                tables=tables,
                workspace=workspace,
                settings=dict(settings),
            )
            stack.callback(spine.stop_all)
            yield spine

    # ------------------------------------------------------------------------------------ services

    def start(self, service: str) -> subprocess.Popen[bytes]:
        """Start a service; it may not be ready when this returns."""
        process = self._launch(service, self.ports.setdefault(service, free_port()))
        self.processes[service] = process
        return process

    def start_replica(self, service: str) -> subprocess.Popen[bytes]:
        """Start another process of a service, with a port of its own; whoever asked ends it."""
        return self._launch(service, free_port())

    def _launch(self, service: str, port: int) -> subprocess.Popen[bytes]:
        with (self.folder / f"{service}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _START, service],
                env={
                    **os.environ,
                    **self._environment(service, port),
                    **self.settings,
                    **self.own_settings.get(service, {}),
                },
                stdout=log,
                stderr=log,
            )

    def start_all(self, services: Sequence[str] = SERVICES) -> None:
        for service in services:
            self.start(service)

    def kill(self, service: str, *, how: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a service and wait for its end; its exit code."""
        self.processes[service].send_signal(how)
        return self.processes[service].wait(timeout=60)

    def stop_all(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text(encoding="utf-8", errors="replace")

    def _environment(self, service: str, port: int) -> Mapping[str, str]:
        of_generator = {"TRACEMEND_TARGET": self.target} if service == "generator" else {}
        return {
            "TRACEMEND_BUS": self.bus,
            "TRACEMEND_STORE": self.store,
            "TRACEMEND_LEDGER": self.ledger,
            "TRACEMEND_FOLDER": str(self.folder / service),
            "TRACEMEND_HTTP_PORT": "0",
            "TRACEMEND_HTTP_HOST": "127.0.0.1",
            "TRACEMEND_RPC_LISTEN": f"127.0.0.1:{port}",
            "TRACEMEND_RPC_ANONYMOUS_ROLES": "[submitter, operator]",
            "OMP_NUM_THREADS": "1",
            **of_generator,
        }

    # ---------------------------------------------------------------------------------------- runs

    def client(self) -> AsyncClient:
        """A client of the ingestion service, started or not."""
        port = self.ports.setdefault("ingestion", free_port())
        return AsyncClient(f"127.0.0.1:{port}", **self.credentials)

    async def submit(self, settings: RunFile) -> str:
        """Submit a run file with its prompts, as `tracemend submit` does; the run's id."""
        async with self.client() as client:
            run = await client.submit(resolve(settings).content, rows_of(resolve(settings)))
            return run.id

    async def wait_until(self, run: str, *states: RunState, within_s: float = 300.0) -> RunRecord:
        """The run's record once it is in one of `states`; fails, with the ends of all logs, where it gets lost."""
        ends_at = time.monotonic() + within_s
        record = await self.tables.runs.get(run)
        while time.monotonic() < ends_at:
            record = await self.tables.runs.get(run)
            if record is not None and record.state in states:
                return record
            if record is not None and record.state.is_final:
                break
            await asyncio.sleep(0.1)
        logs = "\n".join(f"--- {name}\n{self.log(name)[-2000:]}" for name in self.processes)
        raise AssertionError(f"{record} after {within_s:.0f} s\n{logs}")

    async def wait_progress(self, run: str, number: int, *, within_s: float = 300.0) -> None:
        """Wait until `number` more units of a run have ended."""
        begun = await self._num_ended(run)
        async with asyncio.timeout(within_s):
            while await self._num_ended(run) < begun + number:  # noqa: ASYNC110 - nobody tells this process
                await asyncio.sleep(0.1)

    async def _num_ended(self, run: str) -> int:
        return sum((await self.workspace.ledger.outcome_counts(run)).values())

    async def wait_done(self, run: str, *, within_s: float = 300.0) -> RunRecord:
        return await self.wait_until(run, RunState.DONE, within_s=within_s)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def drop_schema(url: str) -> None:
    """Remove what `postgresql_url` made."""
    import psycopg

    dsn, _, options = url.partition("options=")
    schema = options.rpartition("%3D")[2]
    with psycopg.connect(dsn.rstrip("?&"), autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
