"""Jobs of runs: the embedded pipeline over the cluster's ledger and store, on whatever host the settings choose.

The coordinator runs the one that ends a run; the trainer's and the evaluator's servicers hand in through `JobHands`
those that train or measure one arm. However often one is asked for, phases are done once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import structlog

from tracemend.embedded.job import DONE
from tracemend.kit import telemetry as catalogue
from tracemend.kit.errors import PutAside
from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import Conflict, JobRecord
from tracemend.programs.job_hosts import STOPPED, Ended, JobHost, ProcessHost
from tracemend.programs.job_orders import Place, order_of
from tracemend.programs.kubernetes_jobs import KubernetesHost
from tracemend.programs.parts import Parts
from tracemend.runtime.kubernetes import open_kubernetes
from tracemend.runtime.program_settings import JobSettings

_OUTCOMES = {DONE: "ok", STOPPED: "cancelled"}

log = structlog.get_logger(__name__)


class JobRunner:
    """Runs jobs, as many at once as the settings allow, and of each run one."""

    def __init__(self, parts: Parts, settings: JobSettings, *, host: JobHost) -> None:
        self._parts = parts
        self._host = host
        self._slots = asyncio.Semaphore(settings.jobs)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._place = Place(
            store=settings.store,
            ledger=settings.ledger.reveal(),
            folder=settings.folder,
            cache=parts.build.cache,
            worker=f"{parts.workspace.worker}-job",
        )

    async def is_at_work(self, job: JobRecord) -> bool:
        """Whether an attempt of `job` works without this process."""
        return await self._host.is_at_work(job)

    async def run(self, job: JobRecord, *, watched: bool) -> Ended:
        """Run the newest attempt of `job` to its end; where it did not do its work, the job table knows why. A
        `watched` job stops with its run. Cancelled, the host ends what is not to outlive this process."""
        async with self._turns[job.run], self._slots:
            log.info("job begins", run=job.run, job=job.key, attempt=job.attempt)
            its = self._parts
            order = await order_of(job, tables=its.tables, store=its.workspace.store, place=self._place)
            work = self._host.run(job, order)
            try:
                ended = await (self._while_worked_on(job.run, work) if watched else work)
            except PutAside:
                await self._host.stop(job)
                ended = Ended(how=STOPPED, reason="the run was stopped", attempt=job.attempt)
        log.info("job has ended", run=job.run, job=job.key, attempt=ended.attempt, how=ended.how, reason=ended.reason)
        if not ended.was_fenced:
            self._parts.telemetry.count(catalogue.JOBS, kind=job.kind, outcome=_OUTCOMES.get(ended.how, "failed"))
        if ended.how != DONE and not ended.was_fenced:
            await self._note(job, ended)
        return ended

    async def _note(self, job: JobRecord, ended: Ended) -> None:
        """Tell the job table why an attempt did not do its work: with a run that is cancelled, for good."""
        tables = self._parts.tables
        run = await tables.runs.get(job.run)
        try:
            if ended.how == STOPPED and run is not None and run.state is RunState.CANCELLED:
                await tables.jobs.cancel(job.key, reason="the run was cancelled")
            else:
                await tables.jobs.fail(job.key, ended.attempt, reason=ended.reason or ended.how)
        except Conflict as other:
            log.info("somebody else was first", job=job.key, why=str(other))

    async def stop(self, job: JobRecord) -> None:
        """End whatever of `job` is at work on the host."""
        await self._host.stop(job)

    async def _while_worked_on(self, run: str, work: Any) -> Ended:
        await self._parts.runs.look([run])
        ended: Ended = await self._parts.runs.while_worked_on(run, work)
        return ended


class JobHands:
    """`runtime.job_desk.Worker` over a runner. Leave it as a context to let go of what runs."""

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
        await self._let_go(job)
        self._tasks[job.key] = asyncio.create_task(self._runner.run(job, watched=False), name=f"job {job.key}")

    async def stop(self, job: JobRecord) -> None:
        await self._let_go(job)
        await self._runner.stop(job)

    async def _let_go(self, job: JobRecord) -> None:
        task = self._tasks.pop(job.key, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def open_runner(parts: Parts, settings: JobSettings) -> JobRunner:
    """A runner on the host that `settings` choose. The access to Kubernetes is open as long as the process is."""
    if settings.jobs_on == "processes":
        return JobRunner(parts, settings, host=ProcessHost())
    host = KubernetesHost(api=open_kubernetes(), settings=settings.pods, jobs=parts.tables.jobs)
    return JobRunner(parts, settings, host=host)
