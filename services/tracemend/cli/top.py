"""`tracemend top`: what waits, who works on it, how fast, and the runs, redrawn until Ctrl-C.

Each look asks what it was given access to: the bus for what waits (or a service that tells it), /metrics of processes
by URL or through a Kubernetes API, the ingestion service for runs. What does not answer is named below the tables.
Names and numbers only: no text of prompts or models comes this way.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text as Styled

from tracemend.cli.figures import Figures, Look, figures
from tracemend.cli.scraping import Deployed, Scrape, deployed, scraped
from tracemend.cli.showing import inert, plain, print_json, wide_console
from tracemend.cli.submitting import cluster
from tracemend.cli.submitting import plain as plain_run
from tracemend.client import CallError, Client, RunStatus
from tracemend.kit.bus_ports import Backlog, Backlogs
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.run_states import RunState
from tracemend.runtime.kubernetes import KubernetesPages, open_kubernetes
from tracemend.runtime.opening import open_backlogs

_MOVING = tuple(state for state in RunState if not state.is_final)
_MAX_RUNS = 8
_WIDE = 110
"""Columns from which tables show what they can do without."""
_LATE_S = 600.0
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What may be asked; what is empty is not."""

    to: str = ""
    bus: str = ""
    metrics: Sequence[str] = ()
    namespace: str = ""

    def check(self) -> None:
        """`SetupError` where there is nothing to look at."""
        if not (self.to or self.bus or self.metrics or self.namespace):
            raise SetupError(
                "there is nothing to look at: name what to ask by --bus, --metrics, --namespace or --to "
                "(TRACEMEND_BUS, TRACEMEND_METRICS, TRACEMEND_NAMESPACE, TRACEMEND_TO)"
            )


def top(access: Access, *, every_s: float, once: bool, as_json: bool) -> None:
    """Show the cluster until Ctrl-C, or `once`; rates need two looks, `every_s` apart."""
    access.check()
    try:
        asyncio.run(_show(access, every_s=every_s, once=once, as_json=as_json))
    except KeyboardInterrupt:
        return  # the way out of it


async def _show(access: Access, *, every_s: float, once: bool, as_json: bool) -> None:
    console = wide_console()
    async with AsyncExitStack() as stack:
        sources = await Sources.opened(access, stack)
        is_live = console.is_terminal and not once and not as_json
        live = stack.enter_context(Live(console=console, screen=True, auto_refresh=False)) if is_live else None
        async for found in _looks(sources, every_s=every_s):
            if as_json:
                print_json({**plain(found), "runs": [plain_run(run) for run in found.runs]})
            elif live is not None:
                live.update(drawn(found, width=console.width), refresh=True)
            else:
                console.print(drawn(found, width=console.width))
            if once:
                return


async def _looks(sources: Sources, *, every_s: float) -> AsyncIterator[Figures]:
    before = await sources.look()
    while True:
        await asyncio.sleep(every_s)
        now = await sources.look()
        yield figures(before, now)
        before = now


# ----------------------------------------------------------------------------------------- looking


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What was opened of an `Access`."""

    access: Access
    backlogs: Backlogs | None
    kubernetes: KubernetesPages | None
    client: Client | None

    @classmethod
    async def opened(cls, access: Access, stack: AsyncExitStack) -> Sources:
        """Open what there is access to; `stack` closes it."""
        backlogs = open_backlogs(access.bus) if access.bus else None
        kubernetes = open_kubernetes() if access.namespace else None
        for one in (backlogs, kubernetes):
            if one is not None:
                stack.push_async_callback(one.aclose)
        client = stack.enter_context(cluster(access.to, patience_s=0)) if access.to else None
        return cls(access=access, backlogs=backlogs, kubernetes=kubernetes, client=client)

    async def look(self) -> Look:
        """Ask everything at once."""
        troubles: list[str] = []
        backlogs, scrapes, pods, runs = await asyncio.gather(
            self._backlogs(troubles), scraped(self.access.metrics), self._pods(), self._runs(troubles)
        )
        return Look(
            at_s=time.monotonic(),
            scrapes=(*scrapes, *pods.scrapes),
            wanted=pods.wanted,
            resources=pods.jobs,
            backlogs=backlogs,
            runs=runs,
            troubles=troubles,
        )

    async def _backlogs(self, troubles: list[str]) -> Sequence[Backlog] | None:
        if self.backlogs is None:
            return None
        try:
            return await self.backlogs.read()
        except Retry as away:
            troubles.append(away.reason)
            return ()

    async def _pods(self) -> Deployed:
        if self.kubernetes is None:
            return Deployed()
        found = await deployed(self.kubernetes, self.access.namespace)
        if not (found.scrapes or found.wanted):
            trouble = "no pods of tracemend here; is that the namespace of the release?"
            return Deployed(scrapes=(Scrape(f"namespace {self.access.namespace}", trouble=trouble),))
        return found

    async def _runs(self, troubles: list[str]) -> Sequence[RunStatus]:
        client = self.client
        if client is None:
            return ()

        def ask() -> Sequence[RunStatus]:
            moving = [status.id for status, _ in zip(client.runs(states=_MOVING), range(_MAX_RUNS), strict=False)]
            return [client.run(run).status() for run in moving]

        try:
            return await asyncio.to_thread(ask)
        except CallError as error:
            if error.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
                raise SetupError(f"{self.access.to}: {error}; TRACEMEND_TOKEN_FILE names your token's file") from None
            troubles.append(f"{self.access.to}: {error}")
            return ()


# ----------------------------------------------------------------------------------------- drawing


def drawn(found: Figures, *, width: int) -> RenderableType:
    """All tables that have rows, one below the other, in `width` columns."""
    is_wide = width >= _WIDE
    parts: list[RenderableType] = [Styled(time.strftime("tracemend top  %H:%M:%S"), style="dim")]
    tables = (
        _queues(found, is_wide=is_wide),
        _services(found, is_wide=is_wide),
        _engines(found),
        _gpus(found, is_wide=is_wide),
        _trainings(found),
        _resources(found),
        _runs(found),
    )
    for table in tables:
        parts += [Styled(""), table] if table.row_count else []
    if len(parts) == 1 and not found.troubles:
        parts.append(Styled("\nNothing is told: no queue, no process, no run."))
    if found.troubles:
        parts.append(Styled("\n" + "\n".join(inert(trouble) for trouble in found.troubles), style="yellow"))
    return Group(*parts)


def _queues(found: Figures, *, is_wide: bool) -> Table:
    more = ["topic"] if is_wide else []
    table = _table("queue", *more, right=("waiting", "lag", "put back", "workers", "done/s", "left"))
    num_of = Counter(one.group for one in found.queues)
    for one in sorted(found.queues, key=lambda queue: (-queue.lag_s, queue.group, queue.topic)):
        is_left = one.num_waiting and not one.num_members
        late = "yellow" if one.lag_s > _LATE_S else ""
        table.add_row(
            one.group if is_wide or num_of[one.group] == 1 else f"{one.group}\n  {_stem(one.topic)}",
            *([one.topic.removeprefix("tracemend.")] if is_wide else []),
            f"{one.num_waiting:,}",
            Styled(_time(one.lag_s) if one.num_waiting else "", style=late),
            f"{one.num_put_back:,}" if one.num_put_back else "",
            Styled(str(one.num_members), style="red" if is_left else ""),
            _rate(one.per_s),
            _time(one.left_s) if one.left_s is not None else "",
        )
    return table


def _stem(topic: str) -> str:
    """`generations` of `tracemend.generations.<target>.v1`: what tells the topics of one group apart."""
    return topic.removeprefix("tracemend.").partition(".")[0]


def _services(found: Figures, *, is_wide: bool) -> Table:
    table = _table("service", right=("replicas", "in flight", "items/s", "dead"))
    for one in found.services:
        wanted = one.num_wanted if one.num_wanted is not None else one.num_processes
        replicas = f"{one.num_ready}/{wanted}" + (" ready" if is_wide else "")
        table.add_row(
            one.name,
            Styled(replicas, style="yellow" if one.num_ready < wanted else ""),
            f"{one.num_in_flight:,}",
            _rate(one.per_s),
            Styled(f"{one.num_dead:,}" if one.num_dead else "", style="red"),
        )
    return table


def _engines(found: Figures) -> Table:
    table = _table("engine", right=("requests", "waiting", "tokens/s", "busy", "KV use"))
    for one in found.engines:
        table.add_row(
            inert(one.model),
            f"{one.num_requests:,}",
            f"{one.num_waiting:,}" if one.num_waiting else "",
            _rate(one.tokens_per_s),
            f"{one.busy:.0%}",
            f"{one.kv_use:.0%}" if one.kv_use is not None else "",
        )
    return table


def _gpus(found: Figures, *, is_wide: bool) -> Table:
    table = _table("GPU", "pod", right=("busy", "memory"))
    for one in found.gpus:
        where = f"{one.host}/{one.gpu}" if is_wide else one.gpu
        table.add_row(inert(where), inert(one.pod), f"{one.busy:.0%}", f"{one.used_mib / 1024:,.1f} GiB")
    return table


def _trainings(found: Figures) -> Table:
    table = _table("training", right=("step", "loss", "checkpoint"))
    for one in found.trainings:
        jobs = ", ".join(f"{number} {kind}" for kind, number in sorted(found.jobs.items()))
        age = f"{_time(one.checkpoint_age_s)} ago"
        table.add_row(f"jobs: {jobs}", f"{one.step:,}/{one.num_steps:,}", f"{one.loss:.3f}", age)
    return table


def _resources(found: Figures) -> Table:
    table = _table("resource", "run", "arm", "phase", right=("attempt", "step"))
    for one in found.resources:
        table.add_row(one.kind, inert(one.run), inert(one.arm), one.phase, str(one.attempt), inert(one.step))
    return table


def _runs(found: Figures) -> Table:
    table = _table("run", "state", right=("ended", "units", "cost"))
    for run in found.runs:
        ended = f"{run.num_ended:,}" + (f" ({run.num_ended / run.num_units:.0%})" if run.num_units else "")
        table.add_row(run.id, run.state.value, ended, f"{run.num_units:,}", f"{run.money:,.2f}" if run.money else "")
    return table


def _table(*left: str, right: Iterable[str]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in left:
        made.add_column(column, overflow="ellipsis", no_wrap=True)
    for column in right:
        made.add_column(column, justify="right", no_wrap=True)
    return made


def _rate(per_s: float) -> str:
    """Of few things with its fraction."""
    return "" if not per_s else f"{per_s:,.1f}" if per_s < 100 else f"{per_s:,.0f}"


def _time(seconds: float) -> str:
    """In the two units that matter."""
    for unit, size, smaller, part in (("d", _DAY_S, "h", _HOUR_S), ("h", _HOUR_S, "m", _MINUTE_S)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit} {int(seconds % size // part)}{smaller}"
    if seconds >= _MINUTE_S:
        return f"{int(seconds // _MINUTE_S)}m {int(seconds % _MINUTE_S)}s"
    return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
