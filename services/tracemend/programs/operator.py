"""The operator: TrainingRuns and EvaluationRuns of a namespace become Jobs, and tell how they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from tracemend.kit.errors import Retry
from tracemend.kit.server_ports import Conflict, Jobs
from tracemend.kit.telemetry import POOL_HELD
from tracemend.runtime.kubernetes import open_kubernetes
from tracemend.runtime.opening import open_server_tables
from tracemend.runtime.program import Program
from tracemend.runtime.program_settings import OperatorSettings
from tracemend.trainer.operator.cluster import KubernetesCluster
from tracemend.trainer.operator.desk import Desk
from tracemend.trainer.operator.watching import watch

_DIGITS = 6

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JobTable:
    """`trainer.operator.desk.Outside`: what jobs tell the job table."""

    jobs: Jobs

    async def progress(self, job: str) -> Mapping[str, str]:
        try:
            record = await self.jobs.get(job)
        except Retry as away:
            log.warning("the job table does not answer", why=away.reason)
            return {}
        told = record.progress if record is not None else {}
        return {name: f"{value:.{_DIGITS}g}" for name, value in sorted(told.items()) if name != "beats"}

    async def clean_up(self, job: str) -> None:
        try:
            await self.jobs.cancel(job, reason="its resource was deleted")
        except (KeyError, Conflict):
            return  # it never began, or is done


async def main(settings: OperatorSettings, program: Program[OperatorSettings]) -> None:
    """Serve until told to stop."""
    async with AsyncExitStack() as stack:
        tables = await asyncio.to_thread(open_server_tables, settings.ledger.reveal())
        stack.push_async_callback(tables.aclose)
        api = open_kubernetes()
        stack.push_async_callback(api.aclose)
        cluster = KubernetesCluster(api=api, namespace=settings.namespace, template=settings.template)
        members = cluster if settings.gpu_pool == "shared" else None
        desk = Desk(
            cluster=cluster,
            outside=JobTable(tables.jobs),
            members=members,
            say_held=lambda is_held: program.telemetry.gauge(POOL_HELD, float(is_held)),
            gpu=settings.gpu_resource,
            resync_s=settings.resync_s,
        )
        program.depends_on("kubernetes", cluster.keys)
        program.runs("desk", desk.work())
        program.runs("watches", watch(settings.namespace, tell=desk.tell))
        await program.serve()
