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
MOST_PATIENCE_S = 2.0
"""For items that took long themselves."""
_SHARE_TO_WAIT = 0.1
"""Of the time that an item took, which it may wait for company."""


def patience_for(worked_s: float) -> float:
    """How long an item that took `worked_s` may wait for company: the slower items are, the fewer would share a batch
    that goes at once, and the less the wait adds to what each has taken."""
    return min(max(PATIENCE_S, _SHARE_TO_WAIT * worked_s), MOST_PATIENCE_S)


def _nothing_is_under_way() -> bool:
    return False


def _as_any(_first: object) -> float:
    return PATIENCE_S


async def next_batch(
    arrived: asyncio.Queue[T],
    *,
    most: int = MAX_BATCH,
    linger_s: float = 0.0,
    more_is_under_way: Callable[[], bool] = _nothing_is_under_way,
    patience_s: Callable[[T], float] = _as_any,
) -> list[T]:
    """What has arrived, at least one item and at most `most`.

    A batch that is not full waits `linger_s` for more, and while `more_is_under_way` twice as long again until it has
    waited for the `patience_s` of its first item: an engine that ends responses one by one would pay for a transaction
    each.
    Cancelled, it may lose what it has taken: only who is stopped for good may be.
    """
    batch = [await arrived.get()]
    most_s = patience_s(batch[0])
    waited_s, pause_s = 0.0, linger_s
    while pause_s and arrived.qsize() < most - 1 and (not waited_s or (waited_s < most_s and more_is_under_way())):
        await asyncio.sleep(pause_s)
        waited_s, pause_s = waited_s + pause_s, 2 * pause_s
    while len(batch) < most and not arrived.empty():
        batch.append(arrived.get_nowait())
    return batch
