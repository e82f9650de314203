"""Intake: rows from the sources, filtered in row order, admitted with their planned units in one transaction."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence

from tracemend.corrector.decide import plan_units
from tracemend.embedded.plan import Plan
from tracemend.embedded.progress import Observer
from tracemend.embedded.sourcing import read
from tracemend.embedded.workspace import Workspace
from tracemend.ingestion.service import Admitted, Counts, Intake, Refused, ingest
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Address, AdmittedPrompt, RefusedRow
from tracemend.records import Prompt, Unit
from tracemend.topics import PROMPTS

_PACK_ROWS = 1000
_TOLD_REASONS = 5
"""Why rows are kept aside, the most frequent first; `tracemend failures` has the rest."""


async def seal(workspace: Workspace, *, run: str, plan: Plan, benchmarks: Sequence[Prompt], observer: Observer) -> None:
    """Read, filter and admit the run's prompts, unless that is done. Sealing is one transaction: a kill before it
    repeats the reading, which gives the same rows."""
    if await workspace.ledger.intake(run) is not None:
        return
    observer.phase("prompts")
    rows = ingest(read(plan.run.prompts, first=plan.run.limit), settings=plan.run.ingestion, benchmarks=benchmarks)
    counts = await admit(workspace, run=run, plan=plan, intake=rows, told=observer.advance)
    if counts.num_refused:
        observer.say(f"{counts.num_refused:,} of {counts.num_rows:,} rows kept aside")
        for line in counts.reasons(_TOLD_REASONS):
            observer.say(f"  {line}")


async def admit(
    workspace: Workspace, *, run: str, plan: Plan, intake: Intake, told: Callable[[int], None] | None = None
) -> Counts:
    """Admit what `intake` lets through, with its units; `told` hears of the rows that were read. The rows are read and
    filtered in a thread. `SetupError` if none is admitted."""
    admitted: list[AdmittedPrompt] = []
    refused: list[RefusedRow] = []
    units: list[Unit] = []
    rows = iter(intake)
    while batch := await asyncio.to_thread(lambda: list(itertools.islice(rows, _PACK_ROWS))):
        fit = [item for item in batch if isinstance(item, Admitted)]
        refused += [_refused(item) for item in batch if isinstance(item, Refused)]
        units += units_of(plan, *(item.prompt for item in fit))
        admitted += await _pack(workspace, fit)
        if told is not None:
            told(intake.counts.num_rows)
    if not admitted:
        reasons = "\n".join(intake.counts.reasons(_TOLD_REASONS)) or "the sources have no rows: fill or replace them"
        raise SetupError(f"none of the {intake.counts.num_rows:,} prompts could be admitted\n{reasons}")
    await workspace.ledger.admit(run, prompts=admitted, refused=refused, units=units)
    return intake.counts


def units_of(plan: Plan, *prompts: Prompt) -> list[Unit]:
    """The units that `prompts` must end in, over all arms."""
    corrections, num_samples = [plan.corrections(parent) for parent in plan.parents()], plan.run.target.samples
    return [unit for each in corrections for unit in plan_units(each, *prompts, num_samples=num_samples)]


async def prompts_of(workspace: Workspace, run: str, *, among: set[str] | None = None) -> AsyncIterator[Prompt]:
    """The admitted prompts in row order, as they lie in the store."""
    async for admitted in workspace.ledger.admitted(run):
        if among is None or admitted.prompt in among:
            ((_, prompt),) = await workspace.results.read(admitted.address)
            yield prompt


async def _pack(workspace: Workspace, items: Sequence[Admitted]) -> list[AdmittedPrompt]:
    if not items:
        return []
    addresses: dict[str, Address] = await workspace.results.write(
        {item.prompt.id: ((PROMPTS, item.prompt),) for item in items}
    )
    return [AdmittedPrompt(row=item.row, prompt=item.prompt.id, address=addresses[item.prompt.id]) for item in items]


def _refused(item: Refused) -> RefusedRow:
    return RefusedRow(row=item.row, reason=item.reason, detail=str(item), source=item.source)
