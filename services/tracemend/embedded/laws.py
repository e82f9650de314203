"""The conservation laws of a run: what must hold whatever was killed, repeated or raced on the way.

`tracemend verify` prints them; tests run them after every fault. Each law is checked against what is stored, never
against what the run remembers of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tracemend.adapters.model_folder import identity_of
from tracemend.embedded.intake import prompts_of, units_of
from tracemend.embedded.phases import results_of
from tracemend.embedded.plan import Plan
from tracemend.embedded.workspace import Workspace
from tracemend.kit.errors import SetupError, TracemendError
from tracemend.kit.ports import ConcludedUnit
from tracemend.records import Axis, Outcome, OutcomeState, Part, Unit, Value
from tracemend.trainer import dataset
from tracemend.trainer.pair_dataset import read_pairs
from tracemend.trainer.pairs import BENIGN, REFUSED, shares_prefix

_SHOWN = 3
_GONE = "the dataset is gone, as after a purge: the run's command builds it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One law and whether it holds."""

    law: str
    holds: bool
    checked: int
    """How many things the law was checked on."""
    detail: str = ""
    """What broke it, without any text of prompts or models."""


async def check_laws(workspace: Workspace, *, run: str, plan: Plan) -> list[Finding]:
    """Check every law on `run`."""
    return [finding async for finding in _findings(workspace, run, plan)]


async def _findings(workspace: Workspace, run: str, plan: Plan) -> AsyncIterator[Finding]:
    yield await _rows_are_accounted(workspace, run)
    try:
        planned = [unit async for prompt in prompts_of(workspace, run) for unit in units_of(plan, prompt)]
        results = await results_of(workspace, run)
    except (TracemendError, KeyError) as broken:  # what the other laws are checked against
        yield Finding(
            law="prompts and results of phases are stored unchanged", holds=False, checked=0, detail=str(broken)
        )
        return
    concluded = [
        u for arm in dict.fromkeys(plan.owners.values()) async for u in workspace.ledger.outcomes(run, arm=arm)
    ]
    reopened = set(await workspace.ledger.reopened(run))
    yield await _units_are_accounted(workspace, run, planned, concluded)
    for finding in await _outcomes_are_stored_and_verified(workspace, plan, concluded):
        yield finding
    for arm in plan.owners:
        if f"assemble:{arm}" in results:
            stored = results[f"assemble:{arm}"]
            yield _dataset_is_published(workspace.folder, arm, stored, plan, concluded, reopened)
            if plan.run.arms[arm].assemble.kind == "pairs":
                yield _pairs_share_their_prefix(workspace.folder, arm)
    for arm in plan.order:
        if f"train:{arm}" in results:
            yield _checkpoint_is_whole(workspace.folder, arm, results[f"train:{arm}"])


async def _rows_are_accounted(workspace: Workspace, run: str) -> Finding:
    law = "rows received = refused + admitted"
    counts = await workspace.ledger.intake(run)
    if counts is None:
        return Finding(law=law, holds=True, checked=0, detail="the intake is not sealed yet")
    rows = [item.row async for item in workspace.ledger.admitted(run)]
    rows += [item.row async for item in workspace.ledger.refused(run)]
    complete = sorted(rows) == list(range(1, len(rows) + 1)) and len(rows) == sum(counts)
    detail = "" if complete else f"{len(rows)} rows are stored, {sum(counts)} were counted, or a row number is missing"
    return Finding(law=law, holds=complete, checked=len(rows), detail=detail)


async def _units_are_accounted(
    workspace: Workspace, run: str, planned: list[Unit], concluded: list[ConcludedUnit]
) -> Finding:
    law = "units planned = outcomes + in flight, one outcome each"
    times = Counter(item.unit for item in concluded)
    twice = [unit for unit, number in times.items() if number > 1]
    expected = set(planned)
    strangers = [unit for unit in times if unit not in expected]
    open_prompts = await workspace.ledger.open_prompts(run)
    lost = [unit for unit in planned if unit not in times and unit.prompt not in open_prompts]
    problems = [("concluded twice", twice), ("never planned", strangers), ("lost", lost)]
    detail = "; ".join(f"{len(units)} {what}, such as {_names(units)}" for what, units in problems if units)
    in_flight = len(planned) - len(times)
    note = f"{in_flight} in flight" if in_flight and not detail else detail
    return Finding(law=law, holds=not detail, checked=len(planned), detail=note)


async def _outcomes_are_stored_and_verified(
    workspace: Workspace, plan: Plan, concluded: list[ConcludedUnit]
) -> tuple[Finding, Finding]:
    """Two laws over one reading of all outcomes."""
    usable = [item for item in concluded if item.state in (OutcomeState.KEPT, OutcomeState.CORRECTED)]
    lost: list[Unit] = []
    unverified: list[Unit] = []
    for item in concluded:
        outcome = await _stored(workspace, item)
        if outcome is None:
            lost.append(item.unit)
        elif item.state in (OutcomeState.KEPT, OutcomeState.CORRECTED) and not _is_verified(outcome, plan):
            unverified.append(item.unit)
    return (
        Finding(
            law="every outcome is stored unchanged and says what the ledger says",
            holds=not lost,
            checked=len(concluded),
            detail=f"{len(lost)} are not, such as {_names(lost)}" if lost else "",
        ),
        Finding(
            law="every kept or corrected unit ends in a finished trajectory that was judged safe",
            holds=not unverified,
            checked=len(usable),
            detail=f"{len(unverified)} are not, such as {_names(unverified)}" if unverified else "",
        ),
    )


async def _stored(workspace: Workspace, item: ConcludedUnit) -> Outcome | None:
    """The outcome's record, or None where it cannot be read or is another one than the ledger knows."""
    try:
        ((_, outcome),) = await workspace.results.read(item.address)
    except (TracemendError, KeyError, ValueError):
        return None
    assert isinstance(outcome, Outcome)
    says = (outcome.unit, outcome.state.value, outcome.reason)
    return outcome if says == (item.unit, item.state, item.reason) else None


def _is_verified(outcome: Outcome, plan: Plan) -> bool:
    if outcome.final is None or not outcome.final.trajectory.is_finished:
        return False
    correct = plan.run.arms[outcome.unit.arm].correct
    parts = correct.verify if correct is not None and outcome.final.axis is Axis.HARM else (Part.ANSWER,)
    return all(outcome.final.of(part).value is Value.SAFE for part in parts)


def _dataset_is_published(
    folder: Path,
    arm: str,
    stored: dict[str, object],
    plan: Plan,
    concluded: list[ConcludedUnit],
    reopened: set[tuple[str, str]],
) -> Finding:
    """`reopened`: (arm, prompt) whose units end once more; the dataset is built anew when they have."""
    settings = plan.run.arms[arm].assemble
    kind = "kept or corrected" if settings.kind == "examples" else "kept, corrected or refused"
    law = f"published rows of {arm} = manifest rows, each from a {kind} unit"
    if not (folder / "datasets" / arm).exists():
        return Finding(law=law, holds=False, checked=0, detail=_GONE)
    try:
        manifest = dataset.read_manifest(folder / "datasets" / arm)
        rows = dataset.read_rows(folder / "datasets" / arm)
    except SetupError as error:
        return Finding(law=law, holds=False, checked=0, detail=str(error))
    if manifest.digest != stored["digest"]:
        return Finding(law=law, holds=False, checked=len(rows), detail="the folder holds another dataset")
    own, lender = plan.owners[arm], plan.owners[settings.pairs_from or arm]
    usable = {item.unit for item in concluded if item.state in (OutcomeState.KEPT, OutcomeState.CORRECTED)}
    refused = {item.unit for item in concluded if item.reason == REFUSED}
    strangers: list[Unit] = []
    for row in rows:
        is_refusal = row.get("kind") == BENIGN
        owner = own if is_refusal else lender
        unit = Unit(arm=owner, prompt=row["prompt_id"], sample=row["sample"], variant=row["variant"])
        if unit not in (refused if is_refusal else usable) and (owner, unit.prompt) not in reopened:
            strangers.append(unit)
    detail = f"{len(strangers)} rows come from no usable unit, such as {_names(strangers)}" if strangers else ""
    return Finding(law=law, holds=not strangers, checked=len(rows), detail=detail)


def _pairs_share_their_prefix(folder: Path, arm: str) -> Finding:
    law = f"every pair of {arm} shares its prefix"
    if not (folder / "datasets" / arm).exists():
        return Finding(law=law, holds=False, checked=0, detail=_GONE)
    try:
        pairs = read_pairs(folder / "datasets" / arm)
    except SetupError as error:
        return Finding(law=law, holds=False, checked=0, detail=str(error))
    parted = [pair.unit for pair in pairs if not shares_prefix(pair)]
    detail = f"{len(parted)} do not, such as {_names(parted)}" if parted else ""
    return Finding(law=law, holds=not parted, checked=len(pairs), detail=detail)


def _checkpoint_is_whole(folder: Path, arm: str, stored: dict[str, object]) -> Finding:
    law = f"the checkpoint of {arm} is the model that was trained"
    try:
        identity = identity_of(folder / str(stored["path"]))
    except SetupError as error:
        return Finding(law=law, holds=False, checked=1, detail=str(error))
    holds = identity == stored["model"]
    return Finding(law=law, holds=holds, checked=1, detail="" if holds else "its files have changed since")


def _names(units: list[Unit]) -> str:
    return ", ".join(f"{u.arm}/{u.prompt}/{u.sample}{'/' + u.variant if u.variant else ''}" for u in units[:_SHOWN])
