"""Jobs as TrainingRuns and EvaluationRuns: the trainer and the evaluator write what is wanted, the operator runs it.

The resource is named by the job's key, so that whoever asks for the job again, another process after a crash as well,
finds the one that is at work and waits for it. It ends with the run's word, not with this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from tracemend.embedded.budget import BudgetSpent
from tracemend.embedded.job import DONE, Order
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.server_ports import Conflict, Fenced, JobRecord, Jobs, JobState
from tracemend.programs.job_hosts import CRASH, Ended
from tracemend.runtime.kubernetes import Kubernetes
from tracemend.runtime.program_settings import PodSettings
from tracemend.trainer.operator.cluster import PLURALS
from tracemend.trainer.operator.manifests import GROUP, VERSION
from tracemend.trainer.operator.standing import Phase

_LOOK_S = 2.0
_NAME_CHARS = 40
_HOW: Mapping[str, str] = {
    "NeedsSetup": SetupError.__name__,
    "BudgetSpent": BudgetSpent.__name__,
    "Fenced": Fenced.__name__,
}
"""Why a resource failed to the error that the job ended with."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesHost:
    """`job_hosts.JobHost` over the custom resources of one namespace."""

    api: Kubernetes
    settings: PodSettings
    jobs: Jobs

    async def is_at_work(self, job: JobRecord) -> bool:
        found = await self.api.call("GET", self._path(_kind(job), name_of(job)))
        return found is not None and not _phase(found).is_final and not _is_going(found)

    async def run(self, job: JobRecord, order: Order) -> Ended:
        was_ours = False
        while True:
            try:
                found = await self._found(job, order, ends_count=was_ours)
            except (Retry, Conflict) as away:
                log.warning("the resource of a job cannot be read or written", job=job.key, why=str(away))
            else:
                was_ours = was_ours or (found is not None and not _phase(found).is_final)
                if found is not None and _phase(found).is_final:
                    return await self._end(found, job)
                if found is None and (done := await self._done(job)):
                    return Ended(how=DONE, attempt=done.attempt)
            await asyncio.sleep(_LOOK_S)

    async def stop(self, job: JobRecord) -> None:
        path = self._path(_kind(job), name_of(job))
        await self.api.call("DELETE", path, query={"propagationPolicy": "Foreground"})

    async def _found(self, job: JobRecord, order: Order, *, ends_count: bool) -> dict[str, Any] | None:
        """The resource, created where there is none. One that has ended is another launch's unless `ends_count`, and
        makes way; but a job that is done is not begun again, whoever deletes its resource. None while nothing can be
        said."""
        kind = _kind(job)
        found = await self.api.call("GET", self._path(kind, name_of(job)))
        if found is None:
            wanted = self._resource(kind, job, order)
            return None if await self._done(job) else await self.api.call("POST", self._path(kind), body=wanted)
        if _is_going(found):
            return None
        if _phase(found).is_final and not ends_count and not await self._done(job):
            await self.stop(job)
            return None
        return found

    async def _done(self, job: JobRecord) -> JobRecord | None:
        """The job as the table has it, once it is done."""
        newest = await self.jobs.get(job.key)
        return newest if newest is not None and newest.state is JobState.DONE else None

    async def _end(self, found: Mapping[str, Any], job: JobRecord) -> Ended:
        newest = await self.jobs.get(job.key)
        attempt = newest.attempt if newest is not None else job.attempt
        if _phase(found) is Phase.SUCCEEDED:
            return Ended(how=DONE, attempt=attempt)
        failed: Mapping[str, str] = next(
            (each for each in found["status"].get("conditions", []) if each["type"] == "Failed"), {}
        )
        how = _HOW.get(failed.get("reason", ""), CRASH)
        return Ended(how=how, reason=failed.get("message") or failed.get("reason", ""), attempt=attempt)

    def _resource(self, kind: str, job: JobRecord, order: Order) -> dict[str, Any]:
        pods = self.settings
        arm = {"arm": order.goal.arm} if order.goal is not None else {}
        dataset = {"dataset": order.goal.dataset} if order.goal is not None and order.goal.dataset else {}
        spec = {
            "run": job.run,
            "job": job.key,
            **arm,
            **dataset,
            "gpusPerNode": pods.gpus,
            **({"nodes": pods.nodes} if pods.nodes > 1 and kind == "TrainingRun" else {}),
            "maxFailures": pods.max_failures,
            "ttlSecondsAfterFinished": pods.keep_s,
            **({"queueName": pods.queue} if pods.queue else {}),
            **({"priorityClassName": pods.priority_class} if pods.priority_class else {}),
        }
        return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": {"name": name_of(job)}, "spec": spec}

    def _path(self, kind: str, name: str = "") -> str:
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{self.settings.namespace}/{PLURALS[kind]}"
        return f"{path}/{name}" if name else path


def name_of(job: JobRecord) -> str:
    """The resource's name: the job's key, as a DNS label."""
    return job.key.replace("_", "-").lower()[:_NAME_CHARS].strip("-")


def _kind(job: JobRecord) -> str:
    return "EvaluationRun" if job.kind == "evaluation" else "TrainingRun"


def _phase(found: Mapping[str, Any]) -> Phase:
    return Phase(found.get("status", {}).get("phase", Phase.PENDING))


def _is_going(found: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in found["metadata"]
