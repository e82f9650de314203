"""Batches hold what has arrived, in order, never more than they may, and wait only where they are not full."""

from __future__ import annotations

import asyncio

from tracemend.kit.batching import MAX_BATCH, PATIENCE_S, next_batch


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
