"""The order of rows: every row once per epoch, shuffled by seed, of like length within a batch."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tracemend.trainer.schedule import num_steps, order_rows


@given(st.lists(st.integers(1, 50), min_size=1, max_size=80), st.integers(1, 4), st.integers(1, 9), st.integers())
def test_every_row_is_seen_once_per_epoch(lengths, epochs, batch_rows, seed):
    ids = [f"row {at}" for at in range(len(lengths))]
    order = order_rows(ids, lengths, epochs=epochs, batch_rows=batch_rows, seed=seed)
    for epoch in range(epochs):
        part = order[epoch * len(ids) : (epoch + 1) * len(ids)]
        assert sorted(part) == list(range(len(ids)))
    assert num_steps(len(ids), epochs=epochs, batch_rows=batch_rows) == -(-len(order) // batch_rows)


def test_epochs_and_seeds_differ_and_repeat():
    ids, lengths = [str(at) for at in range(64)], [1] * 64
    first = order_rows(ids, lengths, epochs=2, batch_rows=8, seed=0)
    assert first[:64] != first[64:]
    assert first == order_rows(ids, lengths, epochs=2, batch_rows=8, seed=0)
    assert first != order_rows(ids, lengths, epochs=2, batch_rows=8, seed=1)


def test_a_batch_holds_rows_of_like_length_and_batches_come_in_no_order_of_length():
    lengths = [at % 100 for at in range(800)]
    order = order_rows([str(at) for at in range(800)], lengths, epochs=1, batch_rows=8, seed=0)
    batches = [[lengths[row] for row in order[at : at + 8]] for at in range(0, 800, 8)]
    spread = [max(batch) - min(batch) for batch in batches]
    assert sum(spread) / len(spread) < 10
    longest = [max(batch) for batch in batches]
    assert Counter(one < other for one, other in itertools.pairwise(longest))[True] in range(30, 70)
