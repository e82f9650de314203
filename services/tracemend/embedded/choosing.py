"""Which traces of a run are measured place by place: those that are named, or those of prompts that can go either way.

Only what the model itself sampled, judged by the run's judge and with its token ids, can be continued from its places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from tracemend.embedded.continuing import is_continuation
from tracemend.embedded.workspace import Workspace
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Address
from tracemend.records import Axis, Value, Verdict
from tracemend.topics import VERDICTS

_SIDES = (Value.UNSAFE, Value.SAFE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A verdict that lies in the store."""

    sample: int
    id: str
    value: Value
    address: Address


async def named_verdicts(workspace: Workspace, wanted: Sequence[str], *, judges: Sequence[str]) -> list[Verdict]:
    """The verdicts by one of `judges` on the trajectories whose ids, or whose verdicts' ids, begin with each of
    `wanted`, in that order; `SetupError` where that is none or several."""
    found: dict[str, dict[str, Verdict]] = {name: {} for name in wanted}
    async for verdict, _ in _verdicts(workspace):
        for name in wanted:
            is_named = verdict.trajectory.id.startswith(name) or verdict.id.startswith(name)
            if is_named and verdict.axis is Axis.HARM and verdict.reasoning.judge in judges:
                found[name][verdict.trajectory.id] = verdict
    for name, matches in found.items():
        if not matches:
            raise SetupError(
                f"no trajectory of a harmful prompt begins with '{name}', or the run's judge has not judged it; "
                "`tracemend trace DIR PROMPT` shows a prompt's trajectories"
            )
        if len(matches) > 1:
            raise SetupError(f"'{name}' begins ids of {len(matches)} trajectories; write more of it")
    return list({id_: verdict for name in wanted for id_, verdict in found[name].items()}.values())


async def uncertain_verdicts(
    workspace: Workspace,
    num_prompts: int,
    *,
    model: str,
    judges: Sequence[str],
    per_side: int = 1,
    least_share: float = 0.25,
) -> list[Verdict]:
    """Of `num_prompts` prompts whose safety is uncertain (methods.md §7), the first `per_side` finished unsafe and safe
    samples each. A prompt is uncertain if its samples by `model` are both safe and unsafe, `least_share` of them at
    least on either side: a prompt that all but settles the matter leaves its traces nowhere to turn. The most evenly
    mixed prompts come first.

    Fewer prompts where the run has no more; `SetupError` where it has none.
    """
    candidates = await _candidates(workspace, model=model, judges=judges)
    mixed = {prompt: found for prompt, found in candidates.items() if _is_mixed(found, least_share)}
    if not mixed:
        raise SetupError(
            f"no prompt of this run has safe and unsafe samples by this model, {least_share:.0%} of them at least on "
            "either side; raise target.samples or the number of prompts, or name trajectories"
        )
    order = sorted(mixed, key=lambda prompt: (_imbalance(mixed[prompt]), prompt))
    chosen = [candidate for prompt in order[:num_prompts] for candidate in _first(mixed[prompt], per_side)]
    return [await _read(workspace, candidate.address) for candidate in chosen]


async def _candidates(workspace: Workspace, *, model: str, judges: Sequence[str]) -> dict[str, list[_Candidate]]:
    """Prompt to the finished and decided samples that can be continued, by sample."""
    of_prompt: dict[str, dict[str, _Candidate]] = defaultdict(dict)
    async for verdict, address in _verdicts(workspace):
        trajectory, value = verdict.trajectory, verdict.reasoning.value
        is_sample = trajectory.intervention is None and trajectory.model == model and bool(trajectory.token_ids)
        is_decided = verdict.axis is Axis.HARM and value in _SIDES and verdict.reasoning.judge in judges
        if is_sample and is_decided and trajectory.is_finished:
            of_prompt[trajectory.prompt.id][trajectory.id] = _Candidate(
                sample=trajectory.sample, id=trajectory.id, value=value, address=address
            )
    return {prompt: sorted(found.values(), key=_place) for prompt, found in of_prompt.items()}


async def _verdicts(workspace: Workspace) -> AsyncIterator[tuple[Verdict, Address]]:
    """Every verdict on a trace of a run, one at a time."""
    async for _, address in workspace.ledger.work():
        for topic, record in await workspace.results.read(address):
            if topic == VERDICTS and not is_continuation(record.trajectory):
                yield record, address


async def _read(workspace: Workspace, address: Address) -> Verdict:
    (verdict,) = (record for topic, record in await workspace.results.read(address) if topic == VERDICTS)
    assert isinstance(verdict, Verdict)
    return verdict


def _is_mixed(found: Sequence[_Candidate], least_share: float) -> bool:
    fewest = min(sum(candidate.value is side for candidate in found) for side in _SIDES)
    return fewest > 0 and fewest >= least_share * len(found)


def _place(candidate: _Candidate) -> tuple[int, str]:
    return candidate.sample, candidate.id


def _imbalance(found: Sequence[_Candidate]) -> float:
    num_safe = sum(candidate.value is Value.SAFE for candidate in found)
    return abs(2 * num_safe / len(found) - 1)


def _first(found: Sequence[_Candidate], per_side: int) -> list[_Candidate]:
    return [c for side in _SIDES for c in [c for c in found if c.value is side][:per_side]]
