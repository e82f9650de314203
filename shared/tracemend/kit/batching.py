"""Batches of whatever has arrived: what turns many small transactions into few.

Used by the pump and by the recorder, whose every batch is one pack and one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

MAX_BATCH = 256
"""Most items that are made durable together."""
LINGER_S = 0.02
"""How long a batch that is not full waits for more."""
PATIENCE_S = 0.25
"""Once it has waited so long it goes, whatever is under way."""


def _nothing_is_under_way() -> bool:
    return False


async def next_batch(
    arrived: asyncio.Queue[T],
    *,
    most: int = MAX_BATCH,
    linger_s: float = 0.0,
    more_is_under_way: Callable[[], bool] = _nothing_is_under_way,
) -> list[T]:
    """What has arrived, at least one item and at most `most`.

    A batch that is not full waits `linger_s` for more, and while `more_is_under_way` twice as long again until it has
    waited for `PATIENCE_S`: an engine that ends a response every few milliseconds would pay for a transaction each.
    Cancelled, it may lose what it has taken: only who is stopped for good may be.
    """
    batch = [await arrived.get()]
    waited_s, pause_s = 0.0, linger_s
    while pause_s and arrived.qsize() < most - 1 and (not waited_s or (waited_s < PATIENCE_S and more_is_under_way())):
        await asyncio.sleep(pause_s)
        waited_s, pause_s = waited_s + pause_s, 2 * pause_s
    while len(batch) < most and not arrived.empty():
        batch.append(arrived.get_nowait())
    return batch
