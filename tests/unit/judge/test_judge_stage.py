from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.builders import prompt, trajectory
from tests.fakes import FakeModel

from tracemend.judge.service import JudgeService
from tracemend.judge.settings import JudgeSettings
from tracemend.judge.stage import JudgeStage
from tracemend.kit.ids import make_id
from tracemend.kit.ports import Context, Message
from tracemend.records import Finish, Group, Prompt, Unit, Value, Verdict
from tracemend.topics import GROUPS, TRAJECTORIES, VERDICTS

K = 3


class StoredResults:
    """The finished work, as the pump's results would give it."""

    def __init__(self) -> None:
        self.by_key: dict[str, tuple[Any, ...]] = {}
        self.num_read = 0

    async def done(self, keys: Sequence[str]) -> set[str]:
        return {key for key in keys if key in self.by_key}

    async def records(self, keys: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        found = {key: self.by_key[key] for key in keys if key in self.by_key}
        self.num_read += len(found)
        return found


@pytest.fixture
def results() -> StoredResults:
    return StoredResults()


@pytest.fixture
def stage(results: StoredResults) -> JudgeStage:
    settings = JudgeSettings.model_validate({"harm": {"name": "llama_guard", "model": "guard"}})
    return JudgeStage(JudgeService.build(settings, {"guard": FakeModel("safe")}), results)


def sampled(of: Prompt, sample: int, **fields: Any) -> Message:
    requests = tuple(make_id("request", of.id, index) for index in range(K))
    record = trajectory(of, sample=sample, request=requests[sample], **fields)
    return Message(topic=TRAJECTORIES, record=record, context=Context(run="r", siblings=requests))


def deliver(stage: JudgeStage, results: StoredResults, message: Message) -> list[Message]:
    """What the pump does with one message: work once, store, follow."""
    key = stage.key(message)
    assert key is not None
    if key not in results.by_key:
        produced = asyncio.run(stage.work(message)).messages
        results.by_key[key] = tuple(item.record for item in produced)
    return list(asyncio.run(stage.follow([message])))


def test_a_trajectory_becomes_one_verdict_in_its_context(stage: JudgeStage) -> None:
    message = sampled(prompt(), 0)
    produced = asyncio.run(stage.work(message))
    (out,) = produced.messages
    assert (out.topic, out.context) == (VERDICTS, message.context)
    assert isinstance(out.record, Verdict)
    assert out.record.trajectory == message.record
    assert produced.cost is not None
    assert produced.cost.num_new_tokens == 15


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_last_sibling_completes_the_group_in_sample_order(
    stage: JudgeStage, results: StoredResults, order: tuple[int, ...]
) -> None:
    of = prompt()
    followed = [deliver(stage, results, sampled(of, sample)) for sample in order]
    assert [len(messages) for messages in followed] == [0, 0, 1]
    (message,) = followed[-1]
    assert message.topic is GROUPS
    group: Group = message.record
    assert [verdict.trajectory.sample for verdict in group.verdicts] == [0, 1, 2]
    assert group.prompt == of


def test_a_repeat_emits_the_same_group_again(stage: JudgeStage, results: StoredResults) -> None:
    of = prompt()
    last = [deliver(stage, results, sampled(of, sample)) for sample in range(K)][-1]
    again = [deliver(stage, results, sampled(of, sample)) for sample in range(K)]
    assert again == [last] * K


def test_siblings_that_end_in_one_batch_make_one_group(stage: JudgeStage, results: StoredResults) -> None:
    batch = [sampled(prompt(), sample) for sample in range(K)]
    alone = [deliver(stage, results, message) for message in batch][-1]
    assert list(asyncio.run(stage.follow(batch))) == alone


def test_two_runs_that_share_a_prompt_in_one_batch_each_get_the_group(
    stage: JudgeStage, results: StoredResults
) -> None:
    batch = [sampled(prompt(), sample) for sample in range(K)]
    for message in batch:
        deliver(stage, results, message)
    other_run = [replace(message, context=replace(message.context, run="other")) for message in batch]
    followed = asyncio.run(stage.follow([*batch, *other_run]))
    assert [message.context.run for message in followed] == ["r", "other"]
    assert followed[0].record == followed[1].record


def test_of_a_batch_only_complete_sets_are_read(stage: JudgeStage, results: StoredResults) -> None:
    one, other = prompt("one ?"), prompt("other ?")
    batch = [sampled(one, 0), *(sampled(other, sample) for sample in range(K))]
    for message in batch:
        deliver(stage, results, message)
    results.num_read = 0
    (group,) = asyncio.run(stage.follow(batch))
    assert group.record.prompt == other
    assert results.num_read == K


def test_groups_of_two_prompts_do_not_mix(stage: JudgeStage, results: StoredResults) -> None:
    one, other = prompt("one ?"), prompt("other ?")
    deliver(stage, results, sampled(one, 0))
    deliver(stage, results, sampled(one, 1))
    assert [deliver(stage, results, sampled(other, sample)) for sample in range(2)] == [[], []]


def test_a_fork_joins_nothing(stage: JudgeStage, results: StoredResults) -> None:
    context = Context(run="r", unit=Unit(arm="a", prompt="p"))
    message = Message(topic=TRAJECTORIES, record=trajectory(), context=context)
    assert deliver(stage, results, message) == []


def test_the_dead_are_counted_as_unknown(stage: JudgeStage, results: StoredResults) -> None:
    of = prompt()
    deliver(stage, results, sampled(of, 0))
    deliver(stage, results, sampled(of, 1, finish=Finish.DEAD))
    fatal = sampled(of, 2)
    (dead,) = stage.dead(fatal, "bug_KeyError")
    assert dead.topic is VERDICTS
    key = stage.key(fatal)
    assert key is not None
    results.by_key[key] = (dead.record,)
    (message,) = asyncio.run(stage.follow([fatal]))
    answers = [verdict.answer for verdict in message.record.verdicts]
    assert [answer.value for answer in answers] == [Value.SAFE, Value.UNKNOWN, Value.UNKNOWN]
    assert answers[2].labels == ("dead", "bug_KeyError")


def test_the_work_key_knows_no_run(stage: JudgeStage) -> None:
    message = sampled(prompt(), 0)
    elsewhere = Message(topic=message.topic, record=message.record, context=Context(run="other", epoch=3))
    assert stage.key(message) == stage.key(elsewhere)
