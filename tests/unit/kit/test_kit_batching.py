"""Batches hold what has arrived, in order, never more than they may, and wait only where they are not full."""

from __future__ import annotations

import asyncio

from tracemend.kit.batching import MAX_BATCH, MOST_PATIENCE_S, PATIENCE_S, next_batch, patience_for


async def test_a_batch_takes_what_is_there_and_leaves_the_rest() -> None:
    arrived: asyncio.Queue[int] = asyncio.Queue()
    for number in range(MAX_BATCH + 3):
        arrived.put_nowait(number)
    assert await next_batch(arrived, linger_s=60) == list(range(MAX_BATCH)), "a full one does not linger"
    assert await next_batch(arrived) == [MAX_BATCH, MAX_BATCH + 1, MAX_BATCH + 2]


async def test_a_lingering_batch_takes_what_comes_meanwhile() -> None:
    arrived: asyncio.Queue[str] = asyncio.Queue()
    batch = asyncio.create_task(next_batch(arrived, linger_s=0.05))
    await asyncio.sleep(0)
    assert not batch.done(), "there is nothing yet"
    arrived.put_nowait("first")
    await asyncio.sleep(0)
    arrived.put_nowait("second")
    assert await batch == ["first", "second"]


async def test_a_batch_waits_longer_while_more_is_under_way_and_no_longer_than_that() -> None:
    arrived: asyncio.Queue[int] = asyncio.Queue()
    under_way = [1, 2, 3]

    async def work() -> None:
        while under_way:
            await asyncio.sleep(0.03)
            arrived.put_nowait(under_way.pop())

    arrived.put_nowait(0)
    working = asyncio.create_task(work())
    assert await next_batch(arrived, linger_s=0.01, more_is_under_way=lambda: bool(under_way)) == [0, 3, 2, 1]
    await working


async def test_patience_ends() -> None:
    arrived: asyncio.Queue[int] = asyncio.Queue()
    arrived.put_nowait(0)
    async with asyncio.timeout(40 * PATIENCE_S):
        assert await next_batch(arrived, linger_s=0.02, more_is_under_way=lambda: True) == [0]


async def test_the_first_item_says_how_long_a_batch_may_wait() -> None:
    arrived: asyncio.Queue[float] = asyncio.Queue()
    under_way = [0.0]

    async def work() -> None:
        await asyncio.sleep(1.5 * PATIENCE_S)
        arrived.put_nowait(under_way.pop())

    arrived.put_nowait(10 * PATIENCE_S)
    working = asyncio.create_task(work())
    batch = await next_batch(
        arrived, linger_s=0.01, more_is_under_way=lambda: bool(under_way), patience_s=lambda first: first
    )
    assert batch == [10 * PATIENCE_S, 0.0], "what came after the usual patience"
    await working


def test_slow_items_wait_longer_within_bounds() -> None:
    assert patience_for(0.0) == PATIENCE_S
    assert PATIENCE_S < patience_for(10.0) < patience_for(15.0) <= 1.5, "a tenth of what each has taken at most"
    assert patience_for(3600.0) == MOST_PATIENCE_S
