"""Jobs of runs as processes of this machine: the embedded pipeline over the cluster's ledger and store.

The coordinator runs the one that ends a run; the trainer's and the evaluator's servicers hand in through `JobHands`
those that train or measure one arm. However often one is asked for, phases are done once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import sys
from collections import defaultdict
from typing import Any

import structlog

from tracemend.embedded.goals import Goal
from tracemend.embedded.job import Order
from tracemend.evaluator.servicer import KIND as EVALUATION
from tracemend.kit.errors import PutAside
from tracemend.kit.server_ports import Conflict, Fenced, JobRecord
from tracemend.programs.parts import Parts
from tracemend.runtime.program_settings import JobSettings
from tracemend.trainer.servicer import KIND as TRAINING

DONE = "done"
STOPPED = "stopped"
"""The run was paused or cancelled meanwhile."""

_END_WITHIN_S = 30.0
"""For a job that is told to stop."""

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an attempt at a job ended."""

    how: str
    """`done`, `stopped`, `crash`, or the name of the error that the job ended with on purpose."""
    reason: str = ""

    @property
    def was_fenced(self) -> bool:
        """Whether another attempt works in its place."""
        return self.how == Fenced.__name__


class JobRunner:
    """Runs attempts, as many at once as the settings allow, and of each run one."""

    def __init__(self, parts: Parts, settings: JobSettings) -> None:
        self._parts = parts
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.jobs)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self, job: JobRecord, *, watched: bool) -> Ended:
        """Run the newest attempt of `job` to its end; where it did not do its work, the job table knows why. A
        `watched` job stops with its run. Cancelled, the process is stopped first."""
        async with self._turns[job.run], self._slots:
            log.info("job begins", run=job.run, job=job.key, attempt=job.attempt)
            work = _run_process(await self._order(job))
            try:
                ended = await (self._while_worked_on(job.run, work) if watched else work)
            except PutAside:
                ended = Ended(how=STOPPED, reason="the run was stopped")
        log.info("job has ended", run=job.run, job=job.key, attempt=job.attempt, how=ended.how, reason=ended.reason)
        if ended.how != DONE and not ended.was_fenced:
            try:
                await self._parts.tables.jobs.fail(job.key, job.attempt, reason=ended.reason or ended.how)
            except Conflict as other:
                log.info("somebody else was first", job=job.key, why=str(other))
        return ended

    async def _while_worked_on(self, run: str, work: Any) -> Ended:
        await self._parts.runs.look([run])
        ended: Ended = await self._parts.runs.while_worked_on(run, work)
        return ended

    async def _order(self, job: JobRecord) -> Order:
        record = await self._parts.tables.runs.get(job.run)
        assert record is not None, "jobs belong to runs"
        return Order(
            run=job.run,
            key=job.key,
            attempt=job.attempt,
            plan=record.plan,
            store=self._settings.store,
            ledger=self._settings.ledger.reveal(),
            folder=str(self._settings.folder / "jobs" / job.run),
            cache=str(self._parts.build.cache),
            worker=f"{self._parts.workspace.worker}-job",
            goal=await self._goal(job),
        )

    async def _goal(self, job: JobRecord) -> Goal | None:
        """What of the run the job does, by its terms; all that is left where it works from the plan itself."""
        if job.kind not in (TRAINING, EVALUATION):
            return None
        terms = json.loads(await self._parts.workspace.store.get(job.plan))
        return Goal(arm=terms["arm"], measures=job.kind == EVALUATION, dataset=terms.get("dataset", ""))


class JobHands:
    """`runtime.job_desk.Worker` over a runner. Leave it as a context to stop what runs."""

    def __init__(self, runner: JobRunner) -> None:
        self._runner = runner
        self._tasks: dict[str, asyncio.Task[Ended]] = {}

    async def __aenter__(self) -> JobHands:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def launch(self, job: JobRecord) -> None:
        await self.stop(job)
        self._tasks[job.key] = asyncio.create_task(self._runner.run(job, watched=False), name=f"job {job.key}")

    async def stop(self, job: JobRecord) -> None:
        task = self._tasks.pop(job.key, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _run_process(order: Order) -> Ended:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tracemend.embedded.job",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(dataclasses.asdict(order)).encode() + b"\n")
        await process.stdin.drain()
        said = await process.stdout.read()
        await process.wait()
    except BaseException:
        await asyncio.shield(_stop(process))
        raise
    return read_end(said, process.returncode)


def read_end(said: bytes, code: int | None) -> Ended:
    """How a job's process ended, by its last line and its exit code; a crash where it does not say."""
    lines = said.decode(errors="replace").splitlines()
    try:
        told: Any = json.loads(lines[-1]) if lines else None
    except ValueError:
        told = None
    if isinstance(told, dict) and told.keys() >= {"ended", "reason"}:
        return Ended(how=str(told["ended"]), reason=str(told["reason"]))
    by = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
    return Ended(how="crash", reason=f"the job's process ended by {by}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Let it end what it is at, for a while."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_END_WITHIN_S):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
