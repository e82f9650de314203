"""Batches of whatever has arrived: what turns many small transactions into few.

Used by the pump and by the recorder, whose every batch is one pack and one transaction.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")

MAX_BATCH = 256
"""Most items that are made durable together."""
LINGER_S = 0.02
"""How long a batch that is not full waits for more."""


async def next_batch(arrived: asyncio.Queue[T], *, most: int = MAX_BATCH, linger_s: float = 0.0) -> list[T]:
    """What has arrived, at least one item and at most `most`; a batch that is not full waits `linger_s` for more.

    Cancelled, it may lose what it has taken: only who is stopped for good may be.
    """
    batch = [await arrived.get()]
    if linger_s and arrived.qsize() < most - 1:
        await asyncio.sleep(linger_s)
    while len(batch) < most and not arrived.empty():
        batch.append(arrived.get_nowait())
    return batch
