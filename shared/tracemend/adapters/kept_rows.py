"""Keys and values of responses that were written lately, found again by the tokens that a new request begins with.

Called by the transformers engine's batch. A fork begins with the prompt and a part of the response that it was cut
from; several samples of a prompt begin with the prompt. What is kept is bounded in bytes, the least recently used goes
first.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch

States: TypeAlias = "tuple[torch.Tensor, ...]"
"""Keys of every layer, then values of every layer, each (heads, tokens, head size)."""


class KeptRows:
    """At most `max_bytes` of states, by the tokens that they belong to. Not thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.num_bytes = 0
        self._states: OrderedDict[tuple[int, ...], States] = OrderedDict()
        self._sorted: list[tuple[int, ...]] = []
        """The same token sequences in order: the one that shares most with another stands beside it."""

    def takes(self, num_bytes: int) -> bool:
        """Whether states of that size would be kept at all."""
        return num_bytes <= self._max_bytes

    def keep(self, tokens: tuple[int, ...], states: States) -> None:
        """Keep the states of `tokens`, which nobody else may write to."""
        if tokens in self._states:
            self._states.move_to_end(tokens)
            return
        self._states[tokens] = states
        insort(self._sorted, tokens)
        self.num_bytes += _bytes_of(states)
        while self.num_bytes > self._max_bytes:
            oldest, gone = self._states.popitem(last=False)
            del self._sorted[bisect_left(self._sorted, oldest)]
            self.num_bytes -= _bytes_of(gone)

    def longest(self, tokens: tuple[int, ...]) -> tuple[int, States]:
        """How many of the first `tokens` are kept, and the states of the row that holds them; (0, ()) if none are."""
        at = bisect_left(self._sorted, tokens)
        beside = self._sorted[max(0, at - 1) : at + 1]
        best = max(beside, key=lambda kept: num_shared(kept, tokens), default=())
        num_tokens = num_shared(best, tokens)
        if not num_tokens:
            return 0, ()
        self._states.move_to_end(best)
        return num_tokens, self._states[best]


def num_shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # slices are compared faster than tokens one by one
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _bytes_of(states: States) -> int:
    return sum(state.nbytes for state in states)
