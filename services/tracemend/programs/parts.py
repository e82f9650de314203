"""What every service opens: bus, store, ledger, the tables beside it, and what is shared over them.

Each program enters `open_parts` first; leaving it closes everything in the reverse order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from tracemend.embedded.workspace import Workspace
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import Bus, Store
from tracemend.kit.pump import Pump
from tracemend.kit.results import Results
from tracemend.kit.server_ports import ServerTables
from tracemend.kit.stage import Stage
from tracemend.kit.telemetry import NO_TELEMETRY, Telemetry
from tracemend.programs.building import Builder
from tracemend.programs.plans import Plans
from tracemend.programs.routing import RoutedBus
from tracemend.programs.watching import RunWatch
from tracemend.runtime.opening import open_bus, open_ledger, open_server_tables, open_store, open_topic_keeper
from tracemend.runtime.patience import patient_ledger, patient_store
from tracemend.runtime.program import Phase, Program
from tracemend.runtime.program_settings import ProgramSettings
from tracemend.runtime.stores import close, prove
from tracemend.runtime.telemetry_ports import measured_ledger, traced_store
from tracemend.runtime.telemetry_stage import measured_stage
from tracemend.topics import ALL, Topic, of_targets
from tracemend.wire import WireCodec

_ABSENT = "0" * 64
"""The digest of no blob."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The opened parts of one program."""

    bus: Bus
    tables: ServerTables
    workspace: Workspace
    """Store, ledger and results as the embedded parts know them; its folder is the program's scratch space."""
    plans: Plans
    runs: RunWatch
    build: Builder
    concurrency: int
    telemetry: Telemetry = NO_TELEMETRY

    def pump(self, stage: Stage) -> Pump:
        """A pump over `stage`; it has subscribed when this returns."""
        its = self.workspace
        return Pump(
            measured_stage(stage, self.telemetry),
            bus=self.bus,
            results=its.results,
            ledger=its.ledger,
            worker=its.worker,
            concurrency=self.concurrency,
            telemetry=self.telemetry,
        )


@asynccontextmanager
async def open_parts(
    settings: ProgramSettings, program: Program[Any], *, topics: Sequence[Topic] = ()
) -> AsyncIterator[Parts]:
    """Open what `settings` name, prove the store, and have `program` depend on all of it: on the bus as far as it has
    `topics`, those that every cluster has where none are given."""
    async with AsyncExitStack() as stack:
        telemetry = program.telemetry
        bare = await asyncio.to_thread(open_store, settings.store, telemetry=telemetry)
        stack.push_async_callback(close, bare)
        await _prove(bare, within_s=settings.dependencies.start_within_s)
        answering = measured_ledger(await asyncio.to_thread(open_ledger, settings.ledger.reveal()), telemetry)
        stack.push_async_callback(answering.aclose)
        store, ledger = patient_store(traced_store(bare, telemetry)), patient_ledger(answering)
        tables = await asyncio.to_thread(open_server_tables, settings.ledger.reveal())
        stack.push_async_callback(tables.aclose)
        bus = await asyncio.to_thread(open_bus, settings.bus, store=store, telemetry=telemetry)
        stack.push_async_callback(bus.aclose)
        keeper = await asyncio.to_thread(open_topic_keeper, settings.bus)
        stack.push_async_callback(keeper.aclose)
        program.depends_on("bus", lambda: keeper.check(topics or of_targets([])))
        program.depends_on("store", lambda: store.has(_ABSENT))
        program.depends_on("ledger", lambda: answering.run_state(""))
        cache_bytes = settings.cache_mib * 2**20
        results = Results(store=store, ledger=ledger, codec=WireCodec(), topics=ALL, cache_bytes=cache_bytes)
        workspace = Workspace(folder=settings.folder, store=store, ledger=ledger, results=results, worker=program.name)
        plans, runs = Plans(store), RunWatch(ledger, tables.runs)
        program.runs("run watch", runs.watch())
        yield Parts(
            bus=RoutedBus(bus, plans),
            tables=tables,
            workspace=workspace,
            plans=plans,
            runs=runs,
            build=Builder(results=results, cache=cache_of(settings), telemetry=telemetry, prices=settings.prices),
            concurrency=settings.concurrency,
            telemetry=telemetry,
        )


async def _prove(store: Store, *, within_s: float) -> None:
    """Prove the store once it answers; a server that stays away is a `SetupError`."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                try:
                    return await prove(store)
                except Retry as away:
                    log.warning("the store is not proved yet", reason=away.reason)
                    await asyncio.sleep(away.after_s)
    except TimeoutError:
        raise SetupError(f"the store could not be proved within {within_s:g} s; see that its server answers") from None


def cache_of(settings: ProgramSettings) -> Path:
    """Where the proving ground's own model is kept."""
    return settings.folder / "cache"


def run_pumps(program: Program[Any], pumps: Sequence[Pump]) -> None:
    """Have `program` run `pumps` until it stops; then all cease to take in before any is waited for."""
    for pump in pumps:
        name = f"pump {pump.stage.name}"
        program.on_drain(Phase.INTAKE, name, pump.stop_intake)
        program.on_drain(Phase.FINISH, name, pump.drain)
        program.runs(name, pump.run())
