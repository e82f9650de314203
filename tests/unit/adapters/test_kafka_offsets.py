"""What may be committed of a partition, whatever order the work ends in."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tracemend.adapters.kafka_envelope import Parcel
from tracemend.adapters.kafka_offsets import Offsets
from tracemend.adapters.kafka_partition import Entry, Partition

DELIVERED = st.lists(st.integers(0, 10_000), unique=True, min_size=1, max_size=60).map(sorted)


@given(DELIVERED, st.randoms(use_true_random=False))
def test_nothing_beyond_the_first_unfinished_offset_is_ever_committed(
    delivered: list[int], chance: random.Random
) -> None:
    offsets, open_ = Offsets(), set(delivered)
    for offset in delivered:
        assert offsets.deliver(offset, at_s=0.0)
    for offset in chance.sample(delivered, len(delivered)):
        offsets.finish(offset)
        open_.discard(offset)
        reached = offsets.to_commit
        if reached is not None:
            assert all(offset >= reached for offset in open_)
            assert reached - 1 in delivered
            if chance.random() < 0.5:
                offsets.committed(reached)
                assert offsets.to_commit is None
        assert offsets.num_open == len(open_)
    assert offsets.to_commit in (delivered[-1] + 1, None)
    assert offsets.gap == 0


@given(DELIVERED, st.integers(1, 40))
def test_reading_stops_when_the_window_behind_the_oldest_is_full(delivered: list[int], window: int) -> None:
    offsets = Offsets()
    for offset in delivered:
        offsets.deliver(offset, at_s=0.0)
    for offset in delivered[1:]:
        offsets.finish(offset)
    assert offsets.gap == len(delivered) - 1
    assert offsets.is_full(window=window, age_s=1e9, now_s=0.0) == (len(delivered) >= window)
    offsets.finish(delivered[0])
    assert not offsets.is_full(window=window, age_s=1e9, now_s=0.0)


def test_what_is_done_waits_only_so_long_for_an_older_one_before_reading_stops() -> None:
    offsets = Offsets()
    offsets.deliver(5, at_s=100.0)
    assert not offsets.is_full(window=10, age_s=60, now_s=1000.0)  # nothing is held up
    offsets.deliver(6, at_s=101.0)
    offsets.finish(6)
    assert not offsets.is_full(window=10, age_s=60, now_s=159.0)
    assert offsets.is_full(window=10, age_s=60, now_s=160.0)


def test_a_record_that_is_fetched_again_is_not_delivered_again() -> None:
    offsets = Offsets()
    assert [offsets.deliver(offset, at_s=0.0) for offset in (3, 4, 3, 4)] == [True, True, False, False]
    offsets.finish(3)
    offsets.finish(4)
    offsets.finish(4)
    assert not offsets.deliver(4, at_s=0.0)
    assert offsets.deliver(9, at_s=0.0)
    assert offsets.to_commit == 5


@given(DELIVERED, st.randoms(use_true_random=False))
def test_a_partition_that_went_away_commits_nothing_more(delivered: list[int], chance: random.Random) -> None:
    partition = Partition(name="t", number=0, topic="t")
    for offset in delivered:
        partition.deliver(offset, at_s=0.0)
    in_work = [offset for offset in delivered if chance.random() < 0.5 and partition.hand_out()]
    partition.close()
    assert not partition.hand_out()
    assert partition.is_busy == bool(in_work)
    ended = in_work[: len(in_work) // 2]
    for offset in ended:
        partition.finish(offset)
    reached = partition.to_commit
    assert reached is None or all(offset in ended for offset in delivered if offset < reached)
    partition.lose()
    for offset in in_work[len(ended) :]:
        partition.finish(offset)
    assert partition.to_commit is None
    assert not partition.is_busy


def test_a_partition_is_settled_once_all_that_was_read_is_committed() -> None:
    partition = Partition(name="t", number=0, topic="t")
    assert partition.is_settled
    partition.deliver(3, at_s=0.0)
    assert not partition.is_settled
    assert partition.hand_out()
    partition.finish(3)
    assert not partition.is_settled
    partition.committed(4)
    assert partition.is_settled


def test_an_entry_says_where_it_came_from() -> None:
    parcel = Parcel(topic="t", key=b"", body=b"", headers={})
    entry = Entry(partition=Partition(name="t.retry.1s", number=3, topic="t"), offset=7, parcel=parcel, written_s=0.0)
    assert entry.origin == "t.retry.1s/3/7"
