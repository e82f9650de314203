"""Ending units once more: in the next epoch, whose outcomes count in place of the old ones.

`tracemend redrive` opens the units that ended badly, and when asked by reason those that were not selected for want of
a sample, a judgement or a better draft; the pipeline does so by itself for the units of arms whose parent
was trained to other weights. Attempts go on counting through epochs, so texts are written anew. What died on the way
(a sample, a judgement) is forgotten when its prompt comes up again, or it would only be found again; all other work is.
Units that `purge` ended stay as they are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from tracemend.embedded.flows import Sampler
from tracemend.embedded.phases import latest, once
from tracemend.embedded.plan import Plan
from tracemend.embedded.purging import PURGED
from tracemend.embedded.workspace import Workspace
from tracemend.generator.service import plan_samples
from tracemend.judge.service import JudgeService
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import trajectory_id
from tracemend.kit.registry import did_you_mean
from tracemend.records import Finish, OutcomeState, Part, Prompt, Trajectory, Verdict

_ENDED_BADLY = frozenset({OutcomeState.DEAD, OutcomeState.GAVE_UP, OutcomeState.REJECTED})
_IN_WANT = frozenset({"dead", "unknown", "below_full_marks"})
"""Reasons of units that were not selected for want of a sample, a judgement or a better draft: what a redrive makes
anew. The other reasons are decisions on what was there, which would only be made again."""
_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """What was opened anew."""

    prompts: Mapping[str, int]
    """Arm to the number of its prompts."""
    num_units: int
    reasons: Mapping[str, int]
    """`state/reason` of the units that gave cause, to their number."""


async def redrive(
    workspace: Workspace, *, run: str, plan: Plan, arm: str | None = None, reason: str | None = None
) -> Redriven:
    """Open the units that are dead, rejected or given up, with all others of the same arm and prompt.

    Args:
        workspace: Opened for writing.
        run: The run.
        plan: Its plan.
        arm: Only this arm's units; None for those of every arm.
        reason: Only units that ended for this reason; also those that were not selected, where it is `dead`,
            `unknown` or `below_full_marks`.

    Raises:
        SetupError: No such arm corrects anything, no unit ended for `reason`, or all that did ended as they were meant
            to.
    """
    found, reasons = await _meant(workspace, run=run, plan=plan, arm=arm, reason=reason)
    num_units = 0
    for owner, prompts in found.items():
        num_units += await workspace.ledger.reopen(run, arm=owner, prompts=sorted(prompts))
    if num_units:
        await workspace.ledger.set_state(run, "paused")
    return Redriven(
        prompts={owner: len(prompts) for owner, prompts in found.items()}, num_units=num_units, reasons=dict(reasons)
    )


async def find_units(
    workspace: Workspace, *, run: str, plan: Plan, arm: str | None = None, reason: str | None = None
) -> Redriven:
    """What `redrive` would open; nothing is changed."""
    found, reasons = await _meant(workspace, run=run, plan=plan, arm=arm, reason=reason)
    num_units = 0
    for owner, prompts in found.items():
        async for unit in workspace.ledger.outcomes(run, arm=owner):
            num_units += unit.unit.prompt in prompts
    return Redriven(
        prompts={owner: len(prompts) for owner, prompts in found.items()}, num_units=num_units, reasons=dict(reasons)
    )


async def _meant(
    workspace: Workspace, *, run: str, plan: Plan, arm: str | None, reason: str | None
) -> tuple[dict[str, set[str]], Counter[str]]:
    """The prompts in question by the arm that owns their units, and the units that give cause by `state/reason`."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    reasons: Counter[str] = Counter()
    for owner in _owners(plan, arm):
        async for unit in workspace.ledger.outcomes(run, arm=owner):
            if unit.reason != PURGED and _is_meant(unit.state, unit.reason, reason):
                found[owner].add(unit.unit.prompt)
                reasons[f"{unit.state}/{unit.reason}"] += 1
    if reason is not None and not found:
        raise await _nothing_to_redrive(workspace, run=run, reason=reason)
    return found, reasons


async def _nothing_to_redrive(workspace: Workspace, *, run: str, reason: str) -> SetupError:
    ended = {(state, its) for _, state, its in await workspace.ledger.outcome_counts(run)}
    known = sorted({its for state, its in ended if its != PURGED and _is_meant(state, its, its)})
    hint = did_you_mean(reason, known)
    if reason != PURGED and (OutcomeState.NOT_SELECTED, reason) in ended:
        return SetupError(f"units that were not selected as '{reason}' ended as they were meant to{hint}")
    return SetupError(f"no unit ended for the reason '{reason}'{hint}")


async def follow_parent(workspace: Workspace, *, run: str, parent: str, model: str, arms: Sequence[str]) -> int:
    """See to it that the units of `arms`, which start from `parent`, end on samples of its weights `model`.

    Where they have ended on other weights (the parent was trained again since), all of them are opened; their number
    is returned. A kill on the way repeats this.
    """
    name = f"units:{parent}"
    known = await latest(workspace, run, name)
    num_units = 0
    if known not in (None, model):
        for arm in arms:
            units = workspace.ledger.outcomes(run, arm=arm)
            ended = {unit.unit.prompt async for unit in units if unit.reason != PURGED}
            num_units += await workspace.ledger.reopen(run, arm=arm, prompts=sorted(ended))

    async def noted() -> str:
        return model

    await once(workspace, run, name, [model], noted)
    return num_units


async def epochs_of(workspace: Workspace, *, run: str, arms: Sequence[str]) -> dict[str, dict[str, int]]:
    """Prompts that were redriven to the arms with open units on them, each with its epoch."""
    reopened = await workspace.ledger.reopened(run, arms=arms)
    prompts = sorted({prompt for _, prompt in reopened})
    epochs: dict[str, dict[str, int]] = {prompt: {} for prompt in prompts}
    for arm in arms if prompts else ():
        for prompt in await workspace.ledger.open_prompts(run, arms=[arm], among=prompts):
            epochs[prompt][arm] = reopened.get((arm, prompt), 0)
    return epochs


async def forget_dead(
    workspace: Workspace, prompts: AsyncIterator[Prompt], *, sampler: Sampler, judge: JudgeService
) -> int:
    """Forget the samples of `prompts` that died, and judgements that did or that are about those; their number."""
    num_forgotten = 0
    batch: list[str] = []
    async for prompt in prompts:
        requests = plan_samples(prompt, model=sampler.model, sampling=sampler.sampling, num_samples=sampler.num_samples)
        batch += [request.id for request in requests]
        batch += [judge.work_key(trajectory_id(request.id), prompt) for request in requests]
        if len(batch) >= _BATCH:
            num_forgotten += await _forget(workspace, batch)
            batch = []
    return num_forgotten + await _forget(workspace, batch)


async def _forget(workspace: Workspace, keys: Sequence[str]) -> int:
    results = await workspace.results.records(keys)
    dead = [key for key, records in results.items() if any(_is_dead(record) for record in records)]
    await workspace.ledger.forget(dead)
    return len(dead)


def _is_dead(record: object) -> bool:
    if isinstance(record, Trajectory):
        return record.finish is Finish.DEAD
    if not isinstance(record, Verdict):
        return False
    return _is_dead(record.trajectory) or any("dead" in record.of(part).labels for part in Part)


def _owners(plan: Plan, arm: str | None) -> list[str]:
    """The arms that own the units in question."""
    if arm is None:
        return list(dict.fromkeys(plan.owners.values()))
    if arm not in plan.owners:
        raise SetupError(f"no arm '{arm}' that corrects anything{did_you_mean(arm, sorted(plan.owners))}")
    return [plan.owners[arm]]


def _is_meant(state: str, its_reason: str, wanted: str | None) -> bool:
    if wanted is None:
        return state in _ENDED_BADLY
    is_in_want = state == OutcomeState.NOT_SELECTED and its_reason in _IN_WANT
    return its_reason == wanted and (state in _ENDED_BADLY or is_in_want)
