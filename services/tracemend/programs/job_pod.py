"""The process in a job's pod: `python -m tracemend.programs.job_pod`.

TRACEMEND_JOB_ORDER names the job, as the operator writes it; everything else about it stands in the job table and the
store. Each life of a pod is an attempt of its own, which fences the ones before it off. What it ends with stands in the
exit code, which the operator knows, and in the pod's termination message.

A job on several nodes is done by the pod of the first, and its trainings by all of them: they share TRACEMEND_FOLDER.
The others end well when the first lets them go, however that ends: its word is the job's.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog

from tracemend.embedded.budget import BudgetSpent
from tracemend.embedded.job import DONE, perform, work
from tracemend.kit.errors import SetupError
from tracemend.kit.logs import log_to_stderr
from tracemend.kit.server_ports import Conflict, Fenced, JobState
from tracemend.programs.job_orders import Place, folder_of, order_of
from tracemend.runtime.jobs import Crew, follow
from tracemend.runtime.opening import open_server_tables, open_store
from tracemend.runtime.program_configuration import load
from tracemend.runtime.program_settings import JobPodSettings
from tracemend.runtime.stores import close
from tracemend.trainer.operator.standing import GIVEN_BACK

_CODES: Mapping[str, int] = {DONE: 0, SetupError.__name__: 2, Fenced.__name__: 3, BudgetSpent.__name__: 4}
"""How a job ended to its exit code; anything else that it ends with on purpose is done again: `GIVEN_BACK`."""

log = structlog.get_logger(__name__)


def main() -> int:
    """Do the job, say how it ended."""
    log_to_stderr(as_json=True)
    ended, reason = perform(_work())
    log.info("job has ended", how=ended, reason=reason)
    words = Path(os.environ.get("TRACEMEND_JOB_WORDS", "/dev/termination-log"))
    if reason and words.exists():
        words.write_text(reason[:1000], encoding="utf-8")
    return _CODES.get(ended, GIVEN_BACK)


async def _work() -> None:
    settings = load(JobPodSettings, file=None)
    order = json.loads(os.environ.get("TRACEMEND_JOB_ORDER", "{}"))
    key, run = order.get("job"), order.get("run")
    if not key or not run:
        raise SetupError("TRACEMEND_JOB_ORDER names no job; the operator writes it into the pods that it makes")
    crew = Crew.of_environment(folder_of(settings.folder, run))
    if crew is None:
        await _do(key, settings, crew=None)
    elif crew.node > 0:
        await follow(crew)
    else:
        try:
            await _do(key, settings, crew=crew)
        finally:
            crew.dismiss()


async def _do(key: str, settings: JobPodSettings, *, crew: Crew | None) -> None:
    """Do the job `key`, with the other nodes of `crew`, of which this is the first."""
    ledger = settings.ledger.reveal()
    tables = await asyncio.to_thread(open_server_tables, ledger)
    store = await asyncio.to_thread(open_store, settings.store)
    try:
        job = await tables.jobs.get(key)
        if job is None:
            raise SetupError(f"the job table knows no job '{key}': is this the ledger that it was written to?")
        if job.state is JobState.DONE:
            return
        try:
            await tables.jobs.start(key, plan=job.plan, kind=job.kind, run=job.run, submitted_by=job.submitted_by)
        except Conflict as error:
            raise SetupError(str(error)) from error
        begun = await tables.jobs.get(key)
        assert begun is not None, "it was started"
        cache = settings.cache or settings.folder / "cache"
        name = settings.process_name
        place = Place(store=settings.store, ledger=ledger, folder=settings.folder, cache=cache, worker=name)
        order = await order_of(begun, tables=tables, store=store, place=place)
    finally:
        await close(store)
        await tables.aclose()
    await work(order, crew=crew)


if __name__ == "__main__":
    sys.exit(main())
