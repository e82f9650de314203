"""The judge as a stage: trajectories in, verdicts out, and one `Group` when all samples of a prompt have theirs.

Run by the pump. The join needs no memory of its own: after every delivery of a base sample the stage looks up the
results of its siblings, whose work keys follow from their request ids. Whoever completes the set sees it complete, and
a repeat emits the same `Group` again under the same id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tracemend.judge.service import JudgeService
from tracemend.kit.ids import make_id, trajectory_id
from tracemend.kit.ports import Message
from tracemend.kit.stage import Produced
from tracemend.records import Group, Trajectory, Verdict
from tracemend.topics import GROUPS, TRAJECTORIES, VERDICTS, Topic


class FinishedWork(Protocol):
    """What the join asks of the stored results; `kit.results.Results` is it."""

    async def records(self, keys: Sequence[str]) -> Mapping[str, tuple[Any, ...]]:
        """For each finished work key among `keys`, the records that it produced."""
        ...


class JudgeStage:
    """Judges every trajectory once, and joins the verdicts of siblings."""

    def __init__(self, service: JudgeService, results: FinishedWork) -> None:
        self._service = service
        self._results = results

    @property
    def name(self) -> str:
        return "judge"

    @property
    def inputs(self) -> tuple[Topic, ...]:
        return (TRAJECTORIES,)

    def key(self, message: Message) -> str | None:
        trajectory: Trajectory = message.record
        return self._service.work_key(trajectory.id, trajectory.prompt)

    async def work(self, message: Message) -> Produced:
        graded = await self._service.judge(message.record)
        return Produced(messages=(_verdict_message(graded.verdict, message),), cost=graded.cost)

    async def follow(self, message: Message, produced: Sequence[Message]) -> Sequence[Message]:
        siblings = message.context.siblings
        if not siblings:
            return ()
        prompt = message.record.prompt
        keys = [self._service.work_key(trajectory_id(request), prompt) for request in siblings]
        records = await self._results.records(keys)
        if any(key not in records for key in keys):
            return ()
        verdicts = tuple(_only_verdict(records[key]) for key in keys)
        group = Group(
            id=make_id("group", prompt.id, [verdict.id for verdict in verdicts]), prompt=prompt, verdicts=verdicts
        )
        return (Message(topic=GROUPS, record=group, context=message.context),)

    def dead(self, message: Message, reason: str) -> Sequence[Message]:
        return (_verdict_message(self._service.undecided(message.record, "dead", reason), message),)


def _verdict_message(verdict: Verdict, cause: Message) -> Message:
    return Message(topic=VERDICTS, record=verdict, context=cause.context)


def _only_verdict(records: tuple[Any, ...]) -> Verdict:
    (verdict,) = (record for record in records if isinstance(record, Verdict))
    return verdict
