"""Which prompt an id belongs to: a prompt's own, or that of a request, trajectory, verdict, outcome or dataset row.

`story` asks it. An id says its kind (`trajectory_…`), so only what may hold such ids is gone through. Ids of prompts,
requests and trajectories follow from the ledger alone; those of verdicts and outcomes stand in their records, which are
read one after the other: in a run of hundreds of thousands of prompts that takes minutes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from tracemend.embedded.looking import OpenRun
from tracemend.embedded.phases import results_of
from tracemend.kit.ids import trajectory_id
from tracemend.records import Verdict

_JUDGED = "judge_"
"""How the work keys of judgements begin; every other key is the id of a request."""
_MEASURED = ("evaluate:", "validate:")
"""How phases are called that leave work keys by prompt."""


async def prompts_of_id(opened: OpenRun, wanted: str, *, rows: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Prompt id to one of its ids that begins with `wanted`; `rows` holds the ids of published rows by prompt."""
    matches: dict[str, str] = {}
    for prompt, ids in rows.items():
        for known in ids:
            if known.startswith(wanted):
                matches.setdefault(prompt, known)
    for kind, ids_of in _BY_KIND.items():
        if wanted.startswith(kind) or kind.startswith(wanted):
            async for prompt, known in ids_of(opened, wanted):
                matches.setdefault(prompt, known)
    if not matches or not any(wanted.startswith(kind) for kind in _BY_KIND):
        async for prompt, known in _requests(opened, wanted):
            matches.setdefault(prompt, known)
    if not matches:  # a trajectory that was judged here and written elsewhere
        matches = {prompt: known async for prompt, known in _verdicts(opened, wanted)}
    return matches


async def _prompts(opened: OpenRun, wanted: str) -> AsyncIterator[tuple[str, str]]:
    async for admitted in opened.workspace.ledger.admitted(opened.run):
        if admitted.prompt.startswith(wanted):
            yield admitted.prompt, admitted.prompt
    for name, keys in (await results_of(opened.workspace, opened.run)).items():
        if name.startswith(_MEASURED):
            for prompt in keys:
                if prompt.startswith(wanted):
                    yield prompt, prompt


async def _requests(opened: OpenRun, wanted: str) -> AsyncIterator[tuple[str, str]]:
    """Requests of any kind (`request_…`, `rewrite_…`), and the trajectories that they became."""
    async for key, address in opened.workspace.ledger.work():
        if key.startswith(_JUDGED):
            continue
        known = next((its for its in (key, trajectory_id(key)) if its.startswith(wanted)), None)
        if known is not None:
            for topic, record in await opened.workspace.results.read(address):
                yield topic.subject(record), known


async def _verdicts(opened: OpenRun, wanted: str) -> AsyncIterator[tuple[str, str]]:
    async for key, address in opened.workspace.ledger.work():
        if key.startswith(_JUDGED):
            for _, record in await opened.workspace.results.read(address):
                for known in (record.id, record.trajectory.id) if isinstance(record, Verdict) else ():
                    if known.startswith(wanted):
                        yield record.trajectory.prompt.id, known


async def _outcomes(opened: OpenRun, wanted: str) -> AsyncIterator[tuple[str, str]]:
    async for unit in opened.workspace.ledger.outcomes(opened.run):
        ((_, outcome),) = await opened.workspace.results.read(unit.address)
        if outcome.id.startswith(wanted):
            yield unit.unit.prompt, outcome.id


_BY_KIND = {"prompt_": _prompts, "verdict_": _verdicts, "outcome_": _outcomes}
"""How ids of a kind begin, and where they are found; requests have many kinds."""
