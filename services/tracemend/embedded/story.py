"""One row's whole story: a prompt, its samples with their verdicts, what was written for it, how every arm ended it.

`tracemend trace` prints it. A story begins from any id that the run knows (prompt, trajectory, verdict, outcome or
example, or a unique beginning of one) and is told from what is stored. The
results of every run in the folder are looked through, since runs share the work that they have in common.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tracemend.embedded.intake import units_of
from tracemend.embedded.looking import OpenRun
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import AdmittedPrompt
from tracemend.records import Outcome, Prompt, Trajectory, Verdict
from tracemend.topics import VERDICTS
from tracemend.trainer import dataset

_SHOWN_MATCHES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Where a row of the prompt was published."""

    arm: str
    row: int
    """Counted from 1 in the arm's dataset."""
    example: str
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything that the run knows of one prompt."""

    row: int
    """In the intake, counted from 1; 0 for a benchmark's prompt."""
    prompt: Prompt
    samples: tuple[Verdict, ...]
    """The target's own, by arm that it was sampled for and by sample."""
    rewrites: tuple[Verdict, ...]
    """What strong models wrote, by the trajectory that it replaces and by attempt."""
    outcomes: tuple[Outcome, ...]
    published: tuple[Published, ...]
    num_open: int = 0
    """Planned units without an outcome."""
    matched: str = ""
    """The id that the story was asked for by."""


async def tell(opened: OpenRun, wanted: str) -> Story:
    """The story of the row that `wanted` belongs to.

    Raises:
        SetupError: No id of the run begins with `wanted`, or ids of several rows do.
    """
    published = _published(opened)
    matches: dict[str, str] = {}
    for prompt_id, entries in published.items():
        _match(wanted, prompt_id, [entry.example for entry in entries], matches)
    async for prompt_id, record in _records(opened):
        _match(wanted, prompt_id, _ids(record), matches)
    if not matches:
        raise SetupError(f"no prompt, trajectory, verdict, outcome or example of this run begins with '{wanted}'")
    if len(matches) > 1:
        first = ", ".join(sorted(matches.values())[:_SHOWN_MATCHES])
        raise SetupError(f"'{wanted}' begins ids of {len(matches)} rows, such as {first}; write more of it")
    ((prompt_id, matched),) = matches.items()
    records = [record async for its, record in _records(opened) if its == prompt_id]
    return _story(opened, records, published.get(prompt_id, []), matched)


async def _records(opened: OpenRun) -> AsyncIterator[tuple[str, AdmittedPrompt | Outcome | Verdict | Prompt]]:
    """(prompt id, record) of all that the run knows, one at a time: a run is larger than memory."""
    read, ledger = opened.workspace.results.read, opened.workspace.ledger
    async for admitted in ledger.admitted(opened.run):
        yield admitted.prompt, admitted
        ((_, prompt),) = await read(admitted.address)
        yield admitted.prompt, prompt
    for arm in dict.fromkeys(opened.plan.owners.values()):
        async for unit in ledger.outcomes(opened.run, arm=arm):
            ((_, outcome),) = await read(unit.address)
            yield unit.unit.prompt, outcome
    async for _, address in ledger.work():
        for topic, record in await read(address):
            if topic == VERDICTS:
                yield record.trajectory.prompt.id, record


def _match(wanted: str, prompt_id: str, ids: Iterable[str], matches: dict[str, str]) -> None:
    for known in ids:
        if known.startswith(wanted):
            matches.setdefault(prompt_id, known)


def _ids(record: AdmittedPrompt | Outcome | Verdict | Prompt) -> tuple[str, ...]:
    if isinstance(record, AdmittedPrompt):
        return (record.prompt,)
    if isinstance(record, Verdict):
        return (record.id, record.trajectory.id, record.trajectory.request)
    return (record.id,)


def _published(opened: OpenRun) -> dict[str, list[Published]]:
    """Rows of the datasets in the run's folder, by prompt."""
    found: dict[str, list[Published]] = {}
    for arm in opened.plan.owners:
        folder = opened.workspace.folder / "datasets" / arm
        if not folder.is_dir():
            continue
        for row, example in enumerate(dataset.read_examples(folder), start=1):
            entry = Published(arm=arm, row=row, example=example.id, sample=example.unit.sample)
            found.setdefault(example.prompt.id, []).append(entry)
    return found


def _story(opened: OpenRun, records: Sequence[object], published: list[Published], matched: str) -> Story:
    admitted = next((record for record in records if isinstance(record, AdmittedPrompt)), None)
    outcomes = [record for record in records if isinstance(record, Outcome)]
    verdicts = {record.id: record for record in records if isinstance(record, Verdict)}
    ordered = sorted(verdicts.values(), key=lambda verdict: _place(verdict.trajectory))
    prompt = next((record for record in records if isinstance(record, Prompt)), None)
    prompt = prompt or ordered[0].trajectory.prompt  # a benchmark's prompt is sampled and judged, never admitted
    planned = units_of(opened.plan, prompt) if admitted is not None else []
    return Story(
        row=admitted.row if admitted is not None else 0,
        prompt=prompt,
        samples=tuple(v for v in ordered if v.trajectory.intervention is None),
        rewrites=tuple(v for v in ordered if v.trajectory.intervention is not None),
        outcomes=tuple(sorted(outcomes, key=lambda o: (o.unit.arm, o.unit.sample, o.unit.variant))),
        published=tuple(published),
        num_open=len(set(planned) - {outcome.unit for outcome in outcomes}),
        matched=matched,
    )


def _place(trajectory: Trajectory) -> tuple[Any, ...]:
    attempt = trajectory.intervention.attempt if trajectory.intervention else 0
    return (trajectory.model, trajectory.sample, trajectory.round, attempt, trajectory.id)
