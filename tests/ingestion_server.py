"""The ingestion service as a real server on loopback, over SQLite and a folder; what programs would hand in are fakes.

Used by the tests of the servicer, of the client and of the commands.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tracemend.ingestion.books import LedgerBooks
from tracemend.ingestion.needs import CheckedPlan, DeadLetter, LetterFilter, Plans, Redriven
from tracemend.ingestion.servicer import Desk, Ingestion, IngestionServicer, registration
from tracemend.ingestion.uploads import UploadSettings
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Ledger, Store
from tracemend.kit.server_ports import ServerTables
from tracemend.records import Trajectory
from tracemend.runtime.opening import open_ledger, open_server_tables, open_store
from tracemend.runtime.rpc.pages import Pages
from tracemend.runtime.rpc.permissions import Role
from tracemend.runtime.rpc.server import RpcServer
from tracemend.runtime.rpc.settings import RpcSettings


def plan(name: str = "demo", target: str = "tiny", **more: Any) -> bytes:
    """A plan as `FakePlans` reads it."""
    return json.dumps({"name": name, "target": target, **more}).encode()


class FakePlans:
    """Reads `{"name": …, "target": …}`; one target is served."""

    async def check(self, content: bytes) -> CheckedPlan:
        try:
            read = json.loads(content)
            name, target = read["name"], read["target"]
        except (ValueError, KeyError):
            raise SetupError("this is no plan; resolve a run file first") from None
        if target != "tiny":
            raise SetupError(f"target '{target}' is not served here; served: tiny")
        return CheckedPlan(run=f"{name}-1", name=name, target=target)


@dataclass(kw_only=True)
class FakeWork:
    """Stories, redriving and dead letters, told from what a test puts in."""

    trajectories: dict[str, Trajectory] = field(default_factory=dict)
    letters_kept: list[DeadLetter] = field(default_factory=list)
    stories: dict[str, SimpleNamespace] = field(default_factory=dict)
    asked: list[Mapping[str, Any]] = field(default_factory=list)

    async def tell(self, run: str, wanted: str) -> Any:
        if wanted not in self.stories:
            raise SetupError(f"no id of this run begins with '{wanted}'")
        return self.stories[wanted]

    async def trajectory(self, run: str, wanted: str) -> Trajectory | None:
        return self.trajectories.get(wanted)

    async def letters(self, which: LetterFilter, *, after: str) -> AsyncIterator[DeadLetter]:
        for letter in self.letters_kept:
            if letter.id > after and which.reason in ("", letter.reason):
                yield letter


@dataclass(kw_only=True)
class Redrivers:
    """What redriving was asked for."""

    asked: list[Mapping[str, Any]] = field(default_factory=list)

    async def redrive(self, run: str, **how: Any) -> Redriven:
        self.asked.append({"run": run, **how})
        return Redriven(num_units=3, prompts={"mend": 2}, reasons={"dead/lost": 2})


class Letters(FakeWork):
    """Dead letters alone: their redriving has the same name as the units'."""

    async def redrive(self, which: LetterFilter, **how: Any) -> tuple[int, int]:
        self.asked.append({"which": which, **how})
        return len(self.letters_kept), 0 if how["dry_run"] else len(self.letters_kept)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running server and what lies behind it."""

    address: str
    tables: ServerTables
    ledger: Ledger
    store: Store
    work: Letters
    units: Redrivers
    server: RpcServer


ALL_ROLES = frozenset(Role) - {Role.SERVICE}


@asynccontextmanager
async def ingestion(
    folder: Path,
    *,
    port: int = 0,
    roles: frozenset[Role] = ALL_ROLES,
    uploads: UploadSettings | None = None,
    store: Store | None = None,
    database: str = "",
    plans: Plans | None = None,
    desk: Desk | None = None,
    rpc: RpcSettings | None = None,
) -> AsyncIterator[Served]:
    """Serve until the end of the block; started again on the same folder, it goes on."""
    url = database or f"sqlite:{folder / 'ledger.db'}"
    store = store or open_store(f"file:{folder}")
    ledger, tables = open_ledger(url), open_server_tables(url)
    work, units = Letters(), Redrivers()
    parts = Ingestion(
        runs=tables.runs,
        uploads=tables.uploads,
        store=store,
        plans=plans or FakePlans(),
        books=LedgerBooks(ledger),
        redriving=units,
        stories=work,
        letters=work,
    )
    servicer = IngestionServicer(parts, pages=Pages(b"key"), uploads=uploads, desk=desk)
    settings = rpc or RpcSettings(listen=f"127.0.0.1:{port}", anonymous_roles=roles)
    server = RpcServer(settings, [registration(servicer)], requests=tables.requests, audit=tables.audit)
    await server.start()
    try:
        yield Served(
            address=f"127.0.0.1:{server.port}",
            tables=tables,
            ledger=ledger,
            store=store,
            work=work,
            units=units,
            server=server,
        )
    finally:
        await server.drain(0)
        await tables.aclose()
        await ledger.aclose()


def letter(number: int, **changes: Any) -> DeadLetter:
    """A dead letter."""
    made = DeadLetter(
        id=f"letter-{number:05}",
        topic="tracemend.verdicts.v1",
        stage="corrector",
        reason="bug",
        record=f"verdict_{number}",
        time_s=1_700_000_000.0 + number,
        num_bytes=100,
    )
    return replace(made, **changes)
