"""What is measured of the cluster and of no process of it: what waits in the bus, and how jobs are.

Ingestion and the trainer each run one of these, as both are always there: what is scaled to nothing cannot tell how
much waits for it. Where several replicas measure the same, readers take the greatest.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import structlog

from tracemend.embedded.underway import PHASE
from tracemend.kit import telemetry as catalogue
from tracemend.kit.bus_ports import Backlogs
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import Ledger
from tracemend.kit.server_ports import JobRecord, Jobs, JobState
from tracemend.kit.telemetry import Telemetry

BACKLOGS_EVERY_S = 15.0
JOBS_EVERY_S = 5.0
_PAGE = 200

log = structlog.get_logger(__name__)


async def measure_backlogs(backlogs: Backlogs, telemetry: Telemetry, *, every_s: float = BACKLOGS_EVERY_S) -> None:
    """Tell what waits for each group, for ever. Closes `backlogs`."""
    try:
        while True:
            try:
                for one in await backlogs.read():
                    labels = {"group": one.group, "topic": one.topic}
                    telemetry.gauge(catalogue.BACKLOG_ITEMS, one.num_items, **labels)
                    telemetry.gauge(catalogue.BACKLOG_SECONDS, one.oldest_s, **labels)
                    telemetry.gauge(catalogue.GROUP_MEMBERS, one.num_members, **labels)
            except (Retry, SetupError) as away:
                log.warning("backlogs are not measured", why=str(away))
            await asyncio.sleep(every_s)
    finally:
        await backlogs.aclose()


@dataclass(slots=True, kw_only=True)
class JobMeter:
    """Tells how the jobs of the table are. One per program."""

    jobs: Jobs
    ledger: Ledger
    telemetry: Telemetry
    clock: Callable[[], float] = time.time
    _kinds: set[str] = field(default_factory=set)
    _attempts: dict[str, int] = field(default_factory=dict)
    """Job to its newest attempt, as far as it was seen here."""
    _stored: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Job to the number of its checkpoints in the store, and since when there are so many."""

    async def measure(self, *, every_s: float = JOBS_EVERY_S) -> None:
        """Tell it for ever."""
        while True:
            try:
                await self.look()
            except Retry as away:
                log.warning("jobs are not measured", why=away.reason)
            await asyncio.sleep(every_s)

    async def look(self) -> None:
        """Tell it once."""
        now_s, running, silence_s = self.clock(), Counter[str](), defaultdict[str, float](float)
        training: JobRecord | None = None
        async for job in self._running():
            running[job.kind] += 1
            silence_s[job.kind] = max(silence_s[job.kind], now_s - job.updated_s)
            self._count_repeats(job)
            if "step" in job.progress and (training is None or job.updated_s > training.updated_s):
                training = job
        self._kinds |= running.keys()
        for kind in self._kinds:
            self.telemetry.gauge(catalogue.JOBS_RUNNING, running[kind], kind=kind)
            self.telemetry.gauge(catalogue.JOB_SILENCE, silence_s[kind], kind=kind)
        if training is not None:
            await self._tell_training(training, now_s)
        self._stored = {key: known for key, known in self._stored.items() if training and key == training.key}
        if training is None:
            self.telemetry.gauge(catalogue.CHECKPOINT_AGE, 0.0)

    def _count_repeats(self, job: JobRecord) -> None:
        repeats = job.attempt - self._attempts.get(job.key, job.attempt)
        self._attempts[job.key] = job.attempt
        if repeats > 0:
            self.telemetry.count(catalogue.JOB_REPEATS, repeats, kind=job.kind)

    async def _tell_training(self, job: JobRecord, now_s: float) -> None:
        told = job.progress
        self.telemetry.gauge(catalogue.TRAINING_STEP, told["step"])
        self.telemetry.gauge(catalogue.TRAINING_STEPS, told.get("num_steps", 0.0))
        if "loss" in told:
            self.telemetry.gauge(catalogue.TRAINING_LOSS, told["loss"])
        number = sum(name.startswith(PHASE) for name, _, _ in await self.ledger.phases(job.run))
        known, since_s = self._stored.get(job.key, (-1, now_s))
        since_s = since_s if known == number else now_s
        self._stored[job.key] = (number, since_s)
        self.telemetry.gauge(catalogue.CHECKPOINT_AGE, now_s - since_s)

    async def _running(self) -> AsyncIterator[JobRecord]:
        after = ""
        while page := await self.jobs.page(after=after, limit=_PAGE, states={JobState.RUNNING}):
            for job in page:
                yield job
            after = page[-1].key
