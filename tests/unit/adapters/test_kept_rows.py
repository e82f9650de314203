"""What is kept of finished responses: the longest beginning is found, and never more than the bound is held."""

from __future__ import annotations

import torch
from hypothesis import given, strategies

from tracemend.adapters.kept_rows import KeptRows, num_shared

SEQUENCES = strategies.lists(strategies.integers(0, 2), min_size=1, max_size=8).map(tuple)
TOKEN_BYTES = 2 * 4 * 2


def states(tokens: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """One layer's keys and values, which say which token they are of: (1 head, tokens, 2)."""
    each = torch.tensor(tokens, dtype=torch.float32)[None, :, None].expand(1, len(tokens), 2).clone()
    return each, -each


@given(kept=strategies.lists(SEQUENCES, max_size=20), asked=SEQUENCES)
def test_the_longest_beginning_among_all_kept_rows_is_found(
    kept: list[tuple[int, ...]], asked: tuple[int, ...]
) -> None:
    rows = KeptRows(10**6)
    for tokens in kept:
        rows.keep(tokens, states(tokens))
    num_tokens, found = rows.longest(asked)
    assert num_tokens == max((len(_shared(tokens, asked)) for tokens in kept), default=0)
    assert all(tuple(each[0, :num_tokens, 0].abs().int().tolist()) == asked[:num_tokens] for each in found)
    assert bool(found) == bool(num_tokens)


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> list[int]:
    together: list[int] = []
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        together.append(mine)
    return together


@given(one=SEQUENCES, other=SEQUENCES)
def test_shared_tokens_are_counted(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    assert num_shared(one, other) == len(_shared(one, other))


@given(kept=strategies.lists(SEQUENCES, max_size=30))
def test_the_latest_rows_are_held_and_no_more_bytes_than_allowed(kept: list[tuple[int, ...]]) -> None:
    rows, latest = KeptRows(10 * TOKEN_BYTES), dict[tuple[int, ...], None]()
    for tokens in kept:
        rows.keep(tokens, states(tokens))
        latest.pop(tokens, None)
        latest[tokens] = None
        while sum(map(len, latest)) > 10:
            del latest[next(iter(latest))]
    assert rows.num_bytes == TOKEN_BYTES * sum(map(len, latest))
    assert all(rows.longest(tokens)[0] == len(tokens) for tokens in latest)


def test_what_was_used_last_goes_last() -> None:
    rows = KeptRows(2 * 3 * TOKEN_BYTES)
    rows.keep((1, 1, 1), states((1, 1, 1)))
    rows.keep((2, 2, 2), states((2, 2, 2)))
    assert rows.longest((1, 1, 5))[0] == 2
    rows.keep((3, 3, 3), states((3, 3, 3)))
    assert [rows.longest((n, n, n))[0] for n in (1, 2, 3)] == [3, 0, 3]


def test_nothing_is_found_where_nothing_may_be_kept() -> None:
    rows = KeptRows(0)
    assert not rows.takes(1)
    assert rows.longest((1, 2)) == (0, ())
