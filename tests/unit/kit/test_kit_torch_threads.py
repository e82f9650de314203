"""Threads of one process compute with as many threads of torch, whichever of them computed first."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tracemend.kit.torch_threads import settle_threads


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_thread_that_computed_early_is_settled_as_one_that_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(1)
    with ThreadPoolExecutor(1) as early, ThreadPoolExecutor(1) as late:
        assert early.submit(torch.get_num_threads).result() == 1
        settle_threads()
        assert early.submit(torch.get_num_threads).result() == 1, "torch leaves a thread with what it had"
        for thread in (early, late):
            thread.submit(settle_threads).result()
        assert [thread.submit(torch.get_num_threads).result() for thread in (early, late)] == [3, 3]


@pytest.mark.parametrize(("says", "threads"), [("1", 1), ("3,2", 3)])
def test_the_environment_says_how_many(monkeypatch: pytest.MonkeyPatch, says: str, threads: int) -> None:
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", says)
    settle_threads()
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("says", ["", "0", "many"])
def test_two_at_most_where_it_says_nothing(monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", says)
    settle_threads()
    assert 1 <= torch.get_num_threads() <= 2
    settle_threads(5)
    assert torch.get_num_threads() == 5
