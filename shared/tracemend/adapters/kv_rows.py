"""The key-value cache of a batch whose rows come and go.

Called by the transformers engine's batch, and by the model's attention layers through `update`, for which it stands
in as transformers' `Cache`. All rows end at the same column: a row that is shorter than the batch is wide has unused
columns on its left, which the mask hides. Keys carry their rotary positions, so a row may move to other columns.

Buffers are (rows, heads, capacity, head size) per layer; live columns are the half-open range [start, end).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tracemend.adapters.kept_rows import States

_ROOM = 64  # columns allocated ahead; growing by half as much again keeps copying linear in the tokens written


class KeyValueRows:
    """Keys and values of every layer for the rows of a batch."""

    is_compileable = False

    def __init__(self, num_layers: int) -> None:
        self._keys: list[torch.Tensor | None] = [None] * num_layers
        self._values: list[torch.Tensor | None] = [None] * num_layers
        self._start = 0
        self._end = 0

    # what attention layers and mask builders call ---------------------------------------------------

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the columns of one forward to a layer; returns all its live columns, the new ones included."""
        end = self._end + key_states.shape[2]
        keys = self._written(self._keys, layer_idx, key_states, end)
        values = self._written(self._values, layer_idx, value_states, end)
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Live columns before the forward that is under way."""
        return self._end - self._start

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """As `get_seq_length`: queries continue where the cache ends."""
        return self.get_seq_length()

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """(columns that attention will see, offset of the first)."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """No fixed maximum."""
        return -1

    # what the batch calls ---------------------------------------------------------------------------

    @property
    def width(self) -> int:
        """Live columns."""
        return self._end - self._start

    @property
    def token_bytes(self) -> int:
        """What one token of one row takes over all layers; 0 before the first forward."""
        return sum(b.shape[1] * b.shape[3] * b.itemsize for b in (*self._keys, *self._values) if b is not None)

    def begin(self, rows: Sequence[tuple[int, States]]) -> None:
        """Fill an empty cache: row i holds the first so many tokens of the given states, with zeros on their left."""
        width = max((num_tokens for num_tokens, _ in rows), default=0)
        if not width:
            return
        states = [each for num_tokens, each in rows if num_tokens]
        num_layers = len(self._keys)
        for layer in range(2 * num_layers):
            heads, _, size = states[0][layer].shape
            buffer = states[0][layer].new_zeros((len(rows), heads, width + _ROOM, size))
            for row, (num_tokens, each) in enumerate(rows):
                if num_tokens:
                    buffer[row, :, width - num_tokens : width] = each[layer][:, :num_tokens]
            (self._keys if layer < num_layers else self._values)[layer % num_layers] = buffer
        self._end = width

    def states_of(self, row: int, *, num_tokens: int, before_end: int) -> States:
        """A copy of `num_tokens` columns of a row, of which the last stands `before_end` columns before the last."""
        end = self._end - before_end
        buffers = [buffer for buffer in (*self._keys, *self._values) if buffer is not None]
        return tuple(buffer[row, :, end - num_tokens : end].clone() for buffer in buffers)

    def advance(self, num_columns: int) -> None:
        """Make the columns of the finished forward live."""
        self._end += num_columns

    def select(self, rows: torch.Tensor, *, trim: int = 0) -> None:
        """Keep only `rows`, in that order (repeats allowed), without the `trim` leftmost columns."""
        start = self._start + trim
        for buffers in (self._keys, self._values):
            for layer, old in enumerate(buffers):
                assert old is not None
                buffers[layer] = _copy([old[:, :, start : self._end].index_select(0, rows)], self._end - start)
        self._start, self._end = 0, self._end - start

    def join(self, other: KeyValueRows) -> None:
        """Append the rows of `other`, both aligned at the right."""
        width = max(self.width, other.width)
        for mine, theirs in ((self._keys, other._keys), (self._values, other._values)):
            for layer, (old, new) in enumerate(zip(mine, theirs, strict=True)):
                assert old is not None
                assert new is not None
                parts = [old[:, :, self._start : self._end], new[:, :, other._start : other._end]]
                mine[layer] = _copy(parts, width)
        self._start, self._end = 0, width

    def _written(self, buffers: list[torch.Tensor | None], layer: int, states: torch.Tensor, end: int) -> torch.Tensor:
        buffer = buffers[layer]
        if buffer is None:
            buffer = states.new_empty((*states.shape[:2], end + _ROOM, states.shape[3]))
        elif end > buffer.shape[2]:
            grown = buffer.new_empty((*buffer.shape[:2], end + max(_ROOM, end // 2), buffer.shape[3]))
            grown[:, :, self._start : self._end] = buffer[:, :, self._start : self._end]
            buffer = grown
        buffers[layer] = buffer
        buffer[:, :, self._end : end] = states
        return buffer[:, :, self._start : end]


def _copy(parts: list[torch.Tensor], width: int) -> torch.Tensor:
    """A new buffer that holds the rows of `parts` one below the other, aligned at column `width`; zeros elsewhere.

    Zeros and not whatever memory held: a hidden column still meets a zero weight, and zero times NaN is NaN.
    """
    heads, _, size = parts[0].shape[1:]
    buffer = parts[0].new_zeros((sum(len(part) for part in parts), heads, width + _ROOM, size))
    row = 0
    for part in parts:
        buffer[row : row + len(part), :, width - part.shape[2] : width] = part
        row += len(part)
    return buffer
