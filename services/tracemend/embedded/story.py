"""One row's whole story: a prompt, its samples with their verdicts, what was written for it, how every arm ended it.

`tracemend trace` prints it. A story begins from any id that the run knows (prompt, trajectory, verdict, outcome or
example, or a unique beginning of one) and is told from what the ledger has on its prompt. Work counts whichever run of
the folder paid for it, since runs share what they have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tracemend.corrector.requests import FORK
from tracemend.embedded.continuing import is_continuation
from tracemend.embedded.intake import units_of
from tracemend.embedded.looking import OpenRun
from tracemend.embedded.lookup import prompts_of_id
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
    forks: tuple[Verdict, ...]
    """What the target went on with after a cut and a trigger, by sample and by round."""
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
    rows = {prompt_id: [entry.example for entry in entries] for prompt_id, entries in published.items()}
    matches = await prompts_of_id(opened, wanted, rows=rows)
    if not matches:
        raise SetupError(f"no prompt, trajectory, verdict, outcome or example of this run begins with '{wanted}'")
    if len(matches) > 1:
        first = ", ".join(sorted(matches.values())[:_SHOWN_MATCHES])
        raise SetupError(f"'{wanted}' begins ids of {len(matches)} rows, such as {first}; write more of it")
    ((prompt_id, matched),) = matches.items()
    return await _story(opened, prompt_id, published.get(prompt_id, []), matched)


async def _admitted(opened: OpenRun, prompt_id: str) -> AdmittedPrompt | None:
    async for admitted in opened.workspace.ledger.admitted(opened.run):
        if admitted.prompt == prompt_id:
            return admitted
    return None


async def _verdicts(opened: OpenRun, prompt_id: str) -> list[Verdict]:
    """All on the prompt's samples and what was made of them, each once, whichever run paid for it."""
    found: dict[str, Verdict] = {}
    async for address in opened.workspace.ledger.about(prompt_id):
        for topic, record in await opened.workspace.results.read(address):
            if topic == VERDICTS and record.trajectory.prompt.id == prompt_id:
                found[record.id] = record
    kept = [verdict for verdict in found.values() if not is_continuation(verdict.trajectory)]
    return sorted(kept, key=lambda verdict: _place(verdict.trajectory))


async def _outcomes(opened: OpenRun, prompt_id: str) -> list[Outcome]:
    found: list[Outcome] = []
    for arm in dict.fromkeys(opened.plan.owners.values()):
        async for unit in opened.workspace.ledger.outcomes(opened.run, arm=arm, prompt=prompt_id):
            ((_, outcome),) = await opened.workspace.results.read(unit.address)
            found.append(outcome)
    return sorted(found, key=lambda outcome: (outcome.unit.arm, outcome.unit.sample, outcome.unit.variant))


def _published(opened: OpenRun) -> dict[str, list[Published]]:
    """Rows of the datasets in the run's folder, by prompt."""
    found: dict[str, list[Published]] = {}
    for arm in opened.plan.owners:
        folder = opened.workspace.folder / "datasets" / arm
        if not folder.is_dir():
            continue
        for number, row in enumerate(dataset.read_rows(folder), start=1):
            entry = Published(arm=arm, row=number, example=row["id"], sample=row["sample"])
            found.setdefault(row["prompt_id"], []).append(entry)
    return found


async def _story(opened: OpenRun, prompt_id: str, published: list[Published], matched: str) -> Story:
    verdicts, outcomes = await _verdicts(opened, prompt_id), await _outcomes(opened, prompt_id)
    admitted = await _admitted(opened, prompt_id)
    if admitted is not None:
        ((_, prompt),) = await opened.workspace.results.read(admitted.address)
    else:  # a benchmark's prompt is sampled and judged, never admitted
        prompt = verdicts[0].trajectory.prompt
    planned = units_of(opened.plan, prompt) if admitted is not None else []
    return Story(
        row=admitted.row if admitted is not None else 0,
        prompt=prompt,
        samples=tuple(v for v in verdicts if v.trajectory.intervention is None),
        rewrites=tuple(v for v in verdicts if _made_by(v.trajectory) not in ("", FORK)),
        forks=tuple(v for v in verdicts if _made_by(v.trajectory) == FORK),
        outcomes=tuple(outcomes),
        published=tuple(published),
        num_open=len(set(planned) - {outcome.unit for outcome in outcomes}),
        matched=matched,
    )


def _made_by(trajectory: Trajectory) -> str:
    """The kind of the intervention that made it; empty for a sample."""
    return trajectory.intervention.kind if trajectory.intervention is not None else ""


def _place(trajectory: Trajectory) -> tuple[Any, ...]:
    attempt = trajectory.intervention.attempt if trajectory.intervention else 0
    return (trajectory.model, trajectory.sample, trajectory.round, attempt, trajectory.id)
