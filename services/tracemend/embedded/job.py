"""The rest of a cluster's run, or one arm's part of it, as a process: `python -m tracemend.embedded.job`.

Launched by the coordinator when every unit that the services work on has ended, and by servicers for what they are
asked. It is the embedded pipeline over the cluster's ledger and store: what is done is found there, what is left (arms
that start from trained models, datasets, trainings, evaluations, the report) is done here. The order comes as one line
of JSON on standard input, which stays open: when it closes, whoever launched the job is gone, and the job ends. One
line of JSON on standard output says how it ended; the exit code is 0 where the job is done.

Attempts are fenced: one that is not the newest learns it at its next heartbeat, and ends without a result.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from tracemend.embedded.budget import BudgetSpent
from tracemend.embedded.goals import Goal
from tracemend.embedded.pipeline import Finished, Unfinished, finish_run
from tracemend.embedded.plan import from_content
from tracemend.embedded.progress import Silent
from tracemend.embedded.workspace import Workspace, connect_workspace
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ids import canonical
from tracemend.kit.logs import log_to_stderr
from tracemend.kit.ports import Address
from tracemend.kit.pump import PumpStats
from tracemend.kit.server_ports import Fenced, Jobs
from tracemend.runtime.jobs import Crew
from tracemend.runtime.opening import open_server_tables

HEARTBEAT_S = 5.0
DONE = "done"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a job is to do, and where."""

    run: str
    key: str
    attempt: int
    plan: str
    """Digest of the plan's blob."""
    store: str
    ledger: str
    folder: str
    """Scratch space of the run on this machine: an attempt goes on with what another one left there."""
    cache: str
    worker: str
    goal: Goal | None = None
    """What of the run; all of it where there is none."""

    @classmethod
    def read(cls, line: str) -> Order:
        """The order that `line` is the JSON of."""
        fields = json.loads(line)
        goal = fields.pop("goal")
        return cls(**fields, goal=Goal(**goal) if goal is not None else None)


class Gauge(Silent):
    """An observer that keeps the last numbers, for the heartbeat. Prompts are told as samples."""

    def __init__(self, *, num_samples: int) -> None:
        self.told: dict[str, float] = {}
        self._num_samples = num_samples

    def phase(self, name: str, *, total: int | None = None, note: str = "") -> None:
        log.info("phase begins", phase=name, total=total)
        self.told = {"num_trajectories": float((total or 0) * self._num_samples)}

    def advance(self, done: int, *, pumps: Sequence[PumpStats] = (), states: Mapping[str, int] | None = None) -> None:
        self.told["num_judged"] = float(done * self._num_samples)

    def training(self, step: int, num_steps: int, loss: float) -> None:
        self.told |= {"step": float(step), "num_steps": float(num_steps)}
        if math.isfinite(loss):
            self.told["loss"] = loss


async def work(order: Order, *, crew: Crew | None = None) -> None:
    """Do what is left of the run and report it, with the other nodes of `crew`; raises what the pipeline raises, and
    `Fenced`."""
    tables = await asyncio.to_thread(open_server_tables, order.ledger)
    try:
        async with connect_workspace(
            Path(order.folder), store=order.store, ledger=order.ledger, worker=order.worker, crew=crew
        ) as workspace:
            plan = from_content(await workspace.store.get(order.plan))
            async with asyncio.TaskGroup() as tasks:
                gauge = Gauge(num_samples=plan.run.evaluate.samples if plan.run.evaluate else 1)
                heart = tasks.create_task(_beat(tables.jobs, order, gauge))
                try:
                    finished = await finish_run(
                        workspace, plan, cache=Path(order.cache), observer=gauge, run=order.run, goal=order.goal
                    )
                except Unfinished as some:
                    heart.cancel()
                    address = await _keep(workspace, some.finished)
                    await tables.jobs.fail(order.key, order.attempt, reason=str(some), address=address)
                    raise
                heart.cancel()
            address = await _keep(workspace, finished)
        await tables.jobs.finish(order.key, order.attempt, address=address)
    finally:
        await tables.aclose()


async def _beat(jobs: Jobs, order: Order, gauge: Gauge) -> None:
    """Tell that the attempt lives, and how far it is, for ever; `Fenced` once another one works in its place."""
    beats = 0.0
    while True:
        try:
            await jobs.progress(order.key, order.attempt, {"beats": beats, **gauge.told})
        except Retry as away:
            log.warning("heartbeat waits", reason=away.reason)
        beats += 1
        await asyncio.sleep(HEARTBEAT_S)


async def _keep(workspace: Workspace, finished: Finished) -> Address:
    """Store the reports, and the list of all that came out."""
    reports: dict[str, str] = {}
    if finished.report is not None:
        for name in ("report.json", "report.html"):
            content = await asyncio.to_thread((finished.folder / name).read_bytes)
            reports[name] = await workspace.store.put(content)
    content = canonical(
        {
            "run": finished.run,
            "reports": reports,
            "datasets": {arm: dataclasses.asdict(manifest) for arm, manifest in finished.manifests.items()},
            "checkpoints": {arm: dataclasses.asdict(checkpoint) for arm, checkpoint in finished.checkpoints.items()},
        }
    )
    digest = await workspace.store.put(content)
    return Address(pack=digest, offset=0, length=len(content), digest=digest)


def main() -> int:
    """Read the order, do it, say how it ended."""
    log_to_stderr(as_json=True)
    order = Order.read(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True, name="end-with-parent").start()
    ended, reason = perform(work(order))
    print(json.dumps({"ended": ended, "reason": reason}), flush=True)
    return 0 if ended == DONE else 2


def perform(task: Coroutine[Any, Any, None]) -> tuple[str, str]:
    """Run `task`, which SIGTERM cancels: `done`, or the name of the error that it ended with on purpose, and why."""
    try:
        asyncio.run(_until_told(task))
    except BaseExceptionGroup as several:
        return _on_purpose(_first(several))
    except (SetupError, BudgetSpent, Fenced, Retry, asyncio.CancelledError) as end:
        return _on_purpose(end)
    return DONE, ""


async def _until_told(task: Coroutine[Any, Any, None]) -> None:
    current = asyncio.current_task()
    assert current is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    await task


def _first(several: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = several
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _on_purpose(error: BaseException) -> tuple[str, str]:
    if not isinstance(error, (SetupError, BudgetSpent, Fenced, Retry, asyncio.CancelledError)):
        raise error
    return type(error).__name__, str(error)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
