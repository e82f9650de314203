"""What a member does about commits that go well, fail, or are never answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tracemend.adapters.kafka_commits import Commits
from tracemend.adapters.kafka_partition import Partition
from tracemend.kit.telemetry import NO_TELEMETRY

TP: Any = "topic-0"


class Broker:
    """A client whose answers come when the test gives them."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.answers: list[Callable[[object, object], None]] = []
        self.now_s = 0.0

    def commit_async(self, offsets: Any, callback: Callable[[Any, Any], None] | None = None) -> None:
        self.asked.append(offsets[TP].offset)
        assert callback is not None
        self.answers.append(callback)

    def commit(self, offsets: Any, timeout_ms: int | None = None) -> None:
        self.asked.append(offsets[TP].offset)


@pytest.fixture
def broker() -> Broker:
    pytest.importorskip("kafka", reason="needs kafka-python, of the extra `cluster`")
    return Broker()


def commits(broker: Broker) -> Commits:
    return Commits(broker, group="g", telemetry=NO_TELEMETRY, answer_s=10.0, clock=lambda: broker.now_s)


def read(num: int) -> Partition:
    partition = Partition(name="topic", number=0, topic="topic")
    for offset in range(num):
        partition.deliver(offset, at_s=0.0)
    return partition


def done(partition: Partition, offset: int) -> dict[Any, Partition]:
    assert partition.hand_out()
    partition.finish(offset)
    return {TP: partition}


def test_one_request_is_under_way_at_a_time(broker: Broker) -> None:
    its, partition = commits(broker), read(3)
    its.ask(done(partition, 0))
    its.ask(done(partition, 1))
    assert broker.asked == [1]
    broker.answers[0](None, None)
    its.ask({TP: partition})
    broker.answers[1](None, None)
    its.ask({TP: partition})
    assert broker.asked == [1, 2]


def test_a_failed_commit_is_asked_for_again(broker: Broker) -> None:
    its, partition = commits(broker), read(1)
    its.ask(done(partition, 0))
    broker.answers[0](None, RuntimeError("the coordinator moved"))
    its.ask({TP: partition})
    assert broker.asked == [1, 1]


def test_a_commit_that_is_never_answered_stops_no_later_one(broker: Broker) -> None:
    its, partition = commits(broker), read(2)
    its.ask(done(partition, 0))
    broker.now_s = 9.0
    its.ask(done(partition, 1))
    assert broker.asked == [1]
    broker.now_s = 10.0
    its.ask({TP: partition})
    assert broker.asked == [1, 2]


def test_an_answer_that_comes_after_it_was_given_up_changes_nothing_under_way(broker: Broker) -> None:
    its, partition = commits(broker), read(3)
    its.ask(done(partition, 0))
    broker.now_s = 10.0
    its.ask(done(partition, 1))
    broker.answers[0](None, None)  # of the first request, late
    its.ask(done(partition, 2))
    assert broker.asked == [1, 2]
    broker.answers[1](None, None)
    its.ask({TP: partition})
    assert broker.asked == [1, 2, 3]


def test_what_was_taken_away_is_not_committed(broker: Broker) -> None:
    its, partition = commits(broker), read(1)
    going = done(partition, 0)
    partition.lose()
    its.ask(going)
    its.at_last(going)
    assert broker.asked == []
