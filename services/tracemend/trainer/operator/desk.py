"""Looking at runs, deciding, acting: the part of the operator that waits, tries again and forgets nothing.

`tell` is called for every event of a resource or of one of its Jobs, in any order and number; what is told too little
is found by looking at everything every `resync_s`. Runs are worked on one after the other, so no run twice at once.
What happens in Kubernetes and outside of it is behind `Cluster` and `Outside`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog

from tracemend.kit.errors import Retry
from tracemend.kit.server_ports import Conflict
from tracemend.trainer.operator import manifests, pool
from tracemend.trainer.operator.reconcile import reconcile
from tracemend.trainer.operator.standing import (
    Action,
    CleanUp,
    Decision,
    Delete,
    Observed,
    Release,
    Start,
    Status,
    Stop,
)

log = structlog.get_logger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0


@dataclass(frozen=True, slots=True, order=True)
class RunKey:
    """Which resource."""

    kind: str
    """`TrainingRun` or `EvaluationRun`."""
    namespace: str
    name: str


class Cluster(Protocol):
    """The Kubernetes API, as far as runs need it. Each call raises `Retry` where the API does not answer."""

    async def keys(self) -> Sequence[RunKey]:
        """Every run there is."""
        ...

    async def run(self, key: RunKey) -> manifests.Json | None: ...

    async def jobs(self, run: Mapping[str, Any]) -> Sequence[tuple[manifests.Json, Sequence[manifests.Json]]]:
        """The Jobs of a run, each with its pods: as they are now, from no cache."""
        ...

    async def pod_template(self, namespace: str) -> manifests.Json:
        """What pods of jobs are made from; `SetupError` where there is none."""
        ...

    async def create(self, manifest: Mapping[str, Any]) -> None:
        """That it exists already is no error; `Retry` where another owner's stands in its place."""
        ...

    async def delete_job(self, namespace: str, name: str) -> None:
        """With its pods, which get their grace; that it is gone is no error."""
        ...

    async def write_status(self, run: Mapping[str, Any], told: Mapping[str, Any]) -> manifests.Json:
        """Replace the status of `run` as it was read, and return it as it is now; `Conflict`."""
        ...

    async def set_finalizers(self, run: Mapping[str, Any], finalizers: Sequence[str]) -> manifests.Json:
        """`Conflict` as above."""
        ...

    async def delete_run(self, key: RunKey) -> None: ...

    async def note(self, run: Mapping[str, Any], *, reason: str, message: str, is_warning: bool) -> None:
        """An event about `run`, for people; lost where it cannot be written."""
        ...


class Outside(Protocol):
    """What a run's job has outside of Kubernetes."""

    async def progress(self, job: str) -> Mapping[str, str]:
        """What the job told of itself last; nothing where nobody answers."""
        ...

    async def clean_up(self, job: str) -> None:
        """Cancel the job, unless it is done; `Retry` where that cannot be said now."""
        ...


@dataclass(slots=True, kw_only=True)
class Desk:
    """Works on every run of a cluster."""

    cluster: Cluster
    outside: Outside
    members: pool.Members | None = None
    """Where generation shares its GPUs with runs."""
    say_held: Callable[[bool], None] = lambda is_held: None
    """Told after every look whether the pool is kept for runs."""
    gpu: str = manifests.GPU
    """The resource that jobs ask for GPUs as."""
    resync_s: float = 30.0
    clock: Callable[[], float] = time.time
    _due: dict[RunKey, float] = field(default_factory=dict)
    _tries: dict[RunKey, int] = field(default_factory=dict)
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, key: RunKey) -> None:
        """Something has changed about `key`, or may have."""
        self._due[key] = 0.0
        self._told.set()

    async def work(self) -> None:
        """For ever."""
        resync_at = 0.0
        while True:
            self._told.clear()
            now_s = self.clock()
            if now_s >= resync_at:
                resync_at = now_s + self.resync_s
                await self._find()
            for key in sorted(key for key, due in self._due.items() if due <= now_s):
                await self._turn(key)
            await self._share()
            next_s = min([resync_at, *self._due.values()]) - self.clock()
            try:
                async with asyncio.timeout(max(0.01, next_s)):
                    await self._told.wait()
            except TimeoutError:
                pass

    async def _find(self) -> None:
        try:
            found = await self.cluster.keys()
        except Retry as away:
            log.warning("runs cannot be listed", why=away.reason)
            return
        self._due |= dict.fromkeys(found, 0.0)

    async def _turn(self, key: RunKey) -> None:
        """One look and what follows, and when to look again; an error waits longer each time."""
        self._due.pop(key, None)
        try:
            look_again_s = await self.look(key)
        except (Retry, Conflict) as error:
            tries = self._tries[key] = self._tries.get(key, 0) + 1
            look_again_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (tries - 1))
            log.warning("run waits", run=key.name, why=str(error) or "written by somebody else", wait_s=look_again_s)
        else:
            self._tries.pop(key, None)
        if look_again_s is not None:
            due = self.clock() + look_again_s
            self._due[key] = min(due, self._due.get(key, due))

    async def _share(self) -> None:
        """After decisions on runs, and with every look at everything: an error is made good by the next one."""
        if self.members is None:
            return
        try:
            self.say_held(await pool.share(self.members))
        except (Retry, Conflict) as error:
            log.warning("the pool's GPUs stay where they are", why=str(error) or "written by somebody else")

    async def look(self, key: RunKey) -> float | None:
        """Decide for one run and do it; seconds until time alone changes the decision."""
        run = await self.cluster.run(key)
        if run is None:
            return None
        finalizers = run["metadata"].get("finalizers", [])
        is_deleted = bool(run["metadata"].get("deletionTimestamp"))
        if is_deleted and manifests.FINALIZER not in finalizers:
            return None  # others hold it
        if not is_deleted and manifests.FINALIZER not in finalizers:
            run = await self.cluster.set_finalizers(run, [*finalizers, manifests.FINALIZER])
        before = manifests.status_of(run)
        jobs = await self.cluster.jobs(run)
        seen = Observed(
            wanted=manifests.wanted_of(run),
            generation=run["metadata"]["generation"],
            status=before,
            attempts=[manifests.attempt_of(job, pods) for job, pods in jobs],
            progress=await self.outside.progress(run["spec"]["job"]),
            is_deleted=is_deleted,
        )
        decision = reconcile(seen, now_s=self.clock())
        run = await self._say(run, before, decision)
        for action in decision.actions:
            run = await self._act(key, run, action)
        return decision.look_again_s

    async def _say(self, run: manifests.Json, before: Status, decision: Decision) -> manifests.Json:
        told = manifests.told_of(decision.status)
        if told == run.get("status"):
            return run
        run = await self.cluster.write_status(run, told)
        if decision.status.phase is not before.phase:
            reason = next((each.reason for each in decision.status.conditions if each.status == "True"), "Phase")
            words = (
                f"{decision.status.phase}, attempt {decision.status.attempt}: {decision.status.message or 'all well'}"
            )
            await self.cluster.note(run, reason=reason, message=words, is_warning=decision.status.phase == "Failed")
        return run

    async def _act(self, key: RunKey, run: manifests.Json, action: Action) -> manifests.Json:
        match action:
            case Start(attempt=number):
                await self._start(run, number)
            case Stop(attempt=number):
                await self.cluster.delete_job(key.namespace, manifests.job_name(manifests.child_name(run), number))
            case Delete():
                await self.cluster.delete_run(key)
            case CleanUp():
                return await self._clean_up(run)
            case Release():
                return await self._release(run)
        return run

    async def _start(self, run: manifests.Json, number: int) -> None:
        template = await self.cluster.pod_template(run["metadata"]["namespace"])
        if run["spec"].get("nodes", 1) > 1:
            await self.cluster.create(manifests.service_of(run))
        await self.cluster.create(manifests.job_of(run, template, number, gpu=self.gpu))

    async def _clean_up(self, run: manifests.Json) -> manifests.Json:
        """Release once what lies outside is undone; a failure is counted, so that it cannot hold the run for ever."""
        try:
            await self.outside.clean_up(run["spec"]["job"])
        except Retry as away:
            status = manifests.status_of(run)
            status = replace(status, cleanup_failures=status.cleanup_failures + 1)
            message = f"the job could not be cancelled outside of Kubernetes: {away.reason}"
            await self.cluster.note(run, reason="CleanUpFailed", message=message, is_warning=True)
            return await self.cluster.write_status(run, manifests.told_of(status))
        return await self._release(run)

    async def _release(self, run: manifests.Json) -> manifests.Json:
        left = [each for each in run["metadata"].get("finalizers", []) if each != manifests.FINALIZER]
        return await self.cluster.set_finalizers(run, left)
