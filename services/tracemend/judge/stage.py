"""The judge as a stage: trajectories in, verdicts out, and one `Group` when all samples of a prompt have theirs.

Run by the pump. The join needs no memory of its own: after every delivery of base samples the stage looks up the
results of their siblings, whose work keys follow from their request ids. Whoever completes a set sees it complete, and
a repeat emits the same `Group` again under the same id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from tracemend.judge.service import JudgeService
from tracemend.kit.ids import make_id, trajectory_id
from tracemend.kit.ports import Context, Message
from tracemend.kit.stage import Produced
from tracemend.records import Group, Prompt, Trajectory, Verdict
from tracemend.topics import GROUPS, TRAJECTORIES, VERDICTS, Topic


class FinishedWork(Protocol):
    """What the join asks of the stored results; `kit.results.Results` is it."""

    async def done(self, keys: Sequence[str]) -> Collection[str]:
        """The finished ones among `keys`."""
        ...

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

    async def prepare(self, messages: Sequence[Message]) -> None:
        return

    def key(self, message: Message) -> str | None:
        trajectory: Trajectory = message.record
        return self._service.key_of(trajectory)

    async def work(self, message: Message) -> Produced:
        graded = await self._service.judge(message.record)
        return Produced(messages=(_verdict_message(graded.verdict, message),), cost=graded.cost)

    async def follow(self, messages: Sequence[Message]) -> Sequence[Message]:
        # A context names its siblings, so messages of one prompt in one run share it: each group is looked up once.
        prompts = {message.context: message.record.prompt for message in messages if message.context.siblings}
        if not prompts:
            return ()
        sets = {context: self._keys(context, prompt) for context, prompt in prompts.items()}
        done = await self._results.done([key for keys in sets.values() for key in keys])
        complete = {context: keys for context, keys in sets.items() if all(key in done for key in keys)}
        if not complete:
            return ()
        records = await self._results.records([key for keys in complete.values() for key in keys])
        return [
            Message(topic=GROUPS, record=_group(prompts[context], [records[key] for key in keys]), context=context)
            for context, keys in complete.items()
        ]

    def _keys(self, context: Context, prompt: Prompt) -> list[str]:
        return [self._service.work_key(trajectory_id(request), prompt) for request in context.siblings]

    def dead(self, message: Message, reason: str) -> Sequence[Message]:
        return (_verdict_message(self._service.undecided(message.record, "dead", reason), message),)


def _verdict_message(verdict: Verdict, cause: Message) -> Message:
    return Message(topic=VERDICTS, record=verdict, context=cause.context)


def _group(prompt: Prompt, produced: Sequence[tuple[Any, ...]]) -> Group:
    verdicts = tuple(_only_verdict(records) for records in produced)
    return Group(id=make_id("group", prompt.id, [verdict.id for verdict in verdicts]), prompt=prompt, verdicts=verdicts)


def _only_verdict(records: tuple[Any, ...]) -> Verdict:
    (verdict,) = (record for record in records if isinstance(record, Verdict))
    return verdict
