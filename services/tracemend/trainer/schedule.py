"""The order in which rows are trained on: shuffled by seed, of like length within a batch, the same after any resume.

`training` hands it to the trainer as one long pass. A sampler of the training library would draw from the process's
random state, which a resumed process does not have; this order is a function of its arguments alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

_BATCHES_PER_CHUNK = 32
"""Rows are grouped by length within chunks of so many batches: little padding, and still an order close to random."""


def order_rows(ids: Sequence[str], lengths: Sequence[int], *, epochs: int, batch_rows: int, seed: int) -> list[int]:
    """Indices of the rows for all epochs, joined.

    Args:
        ids: Identity of each row, which its place is drawn by.
        lengths: Tokens of each row.
        epochs: How often every row is seen.
        batch_rows: Rows of one optimiser step.
        seed: Draws another order.
    """
    order: list[int] = []
    for epoch in range(epochs):
        shuffled = sorted(range(len(ids)), key=lambda index: _draw(seed, epoch, ids[index]))
        batches = _batches_of_like_length(shuffled, lengths, batch_rows)
        # The batches are shuffled again, or every chunk would begin with its longest rows.
        batches.sort(key=lambda batch: (len(batch) < batch_rows, _draw(seed, epoch, "batch", ids[batch[0]])))
        order.extend(index for batch in batches for index in batch)
    return order


def num_steps(num_rows: int, *, epochs: int, batch_rows: int) -> int:
    """Optimiser steps that the schedule takes; the epochs run into each other, so only the last step may be short."""
    return math.ceil(num_rows * epochs / batch_rows)


def _batches_of_like_length(shuffled: Sequence[int], lengths: Sequence[int], batch_rows: int) -> list[list[int]]:
    batches = []
    chunk_rows = batch_rows * _BATCHES_PER_CHUNK
    for start in range(0, len(shuffled), chunk_rows):
        chunk = sorted(shuffled[start : start + chunk_rows], key=lambda index: -lengths[index])
        batches += [chunk[at : at + batch_rows] for at in range(0, len(chunk), batch_rows)]
    return batches


def _draw(*causes: object) -> bytes:
    return hashlib.sha256("\0".join(str(cause) for cause in causes).encode()).digest()
