"""What a job is to do, from the job table and the store: asked by the runner, and by a job's own pod."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tracemend.embedded.goals import Goal
from tracemend.embedded.job import Order
from tracemend.evaluator.servicer import KIND as EVALUATION
from tracemend.kit.ports import Store
from tracemend.kit.server_ports import JobRecord, ServerTables
from tracemend.trainer.servicer import KIND as TRAINING


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a job works: addresses, and scratch space of the machine."""

    store: str
    ledger: str
    folder: Path
    cache: Path
    worker: str


async def order_of(job: JobRecord, *, tables: ServerTables, store: Store, place: Place) -> Order:
    """The order for the newest attempt of `job`."""
    record = await tables.runs.get(job.run)
    assert record is not None, "jobs belong to runs"
    return Order(
        run=job.run,
        key=job.key,
        attempt=job.attempt,
        plan=record.plan,
        store=place.store,
        ledger=place.ledger,
        folder=str(folder_of(place.folder, job.run)),
        cache=str(place.cache),
        worker=place.worker,
        goal=await goal_of(job, store),
    )


def folder_of(folder: Path, run: str) -> Path:
    """Where the jobs of a run work, in a machine's scratch space."""
    return folder / "jobs" / run


async def goal_of(job: JobRecord, store: Store) -> Goal | None:
    """What of the run the job does, by its terms; all that is left where it works from the plan itself."""
    if job.kind not in (TRAINING, EVALUATION):
        return None
    terms = json.loads(await store.get(job.plan))
    return Goal(arm=terms["arm"], measures=job.kind == EVALUATION, dataset=terms.get("dataset", ""))
