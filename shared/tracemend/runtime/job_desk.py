"""Jobs as resources: the part that the trainer's and the evaluator's servicers share.

A desk starts, finds, lists, watches and cancels the jobs of one kind in the `Jobs` table, and hands new attempts to a
`Worker`, which programs compose. Equal work has the same key, so starting it twice is one job: a running or finished
job is answered as it is, a failed one gets another attempt, and one that was cancelled stays so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tracemend.kit.server_ports import Conflict, JobRecord, Jobs, JobState
from tracemend.runtime.rpc.faults import conflict, invalid, not_found, precondition
from tracemend.runtime.rpc.names import check_etag, format_name, parse_name
from tracemend.runtime.rpc.pages import Pages

RUN = "runs/{run}"
POLL_S = 1.0
"""How old what watchers are shown may be."""
HEARTBEAT_S = 10.0
"""At least so often a watcher hears something."""
PER_PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTerms:
    """What a job works from; the same terms have the same `key`."""

    key: str
    plan: str
    """Digest, in the store, of what the job works from."""
    run: str


class Worker(Protocol):
    """Works jobs off: a launcher behind whatever keeps the number of jobs at once."""

    async def launch(self, job: JobRecord) -> None:
        """Take up the job's newest attempt; returns once that is sure to be worked, not when it ends."""
        ...

    async def stop(self, job: JobRecord) -> None:
        """The job was cancelled: end its process, if it is here."""
        ...


class JobDesk:
    """The jobs of one `kind`, named by `pattern` (`trainings/{training}`)."""

    def __init__(
        self,
        jobs: Jobs,
        worker: Worker,
        *,
        kind: str,
        pattern: str,
        pages: Pages,
        poll_s: float = POLL_S,
        heartbeat_s: float = HEARTBEAT_S,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._jobs = jobs
        self._worker = worker
        self._kind = kind
        self._pattern = pattern
        self._pages = pages
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        self._clock = clock

    def name(self, key: str) -> str:
        """The resource name of a job."""
        return format_name(self._pattern, key)

    async def start(self, terms: JobTerms, *, submitted_by: str, validate_only: bool) -> JobRecord:
        """The job of `terms`, started unless it runs or is done; not started where it is only to be validated."""
        known = await self._jobs.get(terms.key)
        if known is not None and known.state is JobState.CANCELLED:
            raise precondition("JOB_CANCELLED", "this very work was cancelled for good", name=self.name(terms.key))
        if known is not None and known.state in (JobState.RUNNING, JobState.DONE):
            return known
        if validate_only:
            return known or JobRecord(key=terms.key, plan=terms.plan, kind=self._kind, run=terms.run)
        await self._jobs.start(terms.key, plan=terms.plan, kind=self._kind, run=terms.run, submitted_by=submitted_by)
        started = await self._get(terms.key)
        await self._worker.launch(started)
        return started

    async def find(self, name: str) -> JobRecord:
        """The job called `name`; NOT_FOUND if there is none of this kind."""
        (key,) = parse_name(name, self._pattern)
        return await self._get(key)

    async def page(self, request: Any) -> tuple[Sequence[JobRecord], str]:
        """The jobs of a list request (`page_size`, `page_token`, `run`), the newest first, and the next token."""
        size, after = self._pages.size(request, default=PER_PAGE), self._pages.place(request)
        run = parse_name(request.run, RUN, field="run")[0] if request.run else ""
        try:
            found = await self._jobs.page(after=after, limit=size + 1, kind=self._kind, run=run)
        except KeyError:
            raise invalid(page_token="names a place that is gone; leave it empty to start over") from None
        return found[:size], self._pages.token(request, found[size - 1].key if len(found) > size else "")

    async def watch(self, name: str, *, cursor: str) -> AsyncIterator[tuple[JobRecord, str]]:
        """The job and a cursor: at once unless `cursor` names that state, at every change, and at every heartbeat.
        Ends after a final state."""
        now = self._clock or asyncio.get_running_loop().time
        told_s: float | None = now() if cursor else None
        while True:
            job = await self.find(name)
            seen, is_final = job.etag.strip('"'), job.state is not JobState.RUNNING
            if seen != cursor or is_final or told_s is None or now() - told_s >= self._heartbeat_s:
                yield job, seen
                cursor, told_s = seen, now()
            if is_final:
                return
            await asyncio.sleep(self._poll_s)

    async def cancel(self, name: str, *, etag: str) -> JobRecord:
        """The job, cancelled. ABORTED for an old etag; FAILED_PRECONDITION if it is done."""
        job = await self.find(name)
        check_etag(etag, job.etag, name=name)
        if job.state is JobState.DONE:
            raise precondition("ILLEGAL_STATE", f"{name} is done and cannot be cancelled", name=name)
        try:
            cancelled = await self._jobs.cancel(job.key, expected_etag=etag and job.etag, reason="cancelled by request")
        except Conflict:
            raise conflict(name, f"{name} has changed since it was read; read it again") from None
        await self._worker.stop(cancelled)
        return cancelled

    async def _get(self, key: str) -> JobRecord:
        job = await self._jobs.get(key)
        if job is None or job.kind != self._kind:
            raise not_found(self.name(key))
        return job
