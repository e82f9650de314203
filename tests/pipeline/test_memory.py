"""The loop keeps nothing of a prompt that is finished: the objects in use are as many late in a long run as early.

Objects are counted, not resident bytes: the allocator's and the database's own caches move those by thousands of bytes
per prompt at this size, so that only a run of 200,000 prompts tells (`python -m benchmarks.loop memory`).
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.null_loop import MemoryTrace
from benchmarks.one_flow import fly, null_generator, null_run_file, sealed

NUM_PROMPTS = 8_000
KEPT_BLOCKS = 30.0
"""Fewer blocks of memory than one trajectory takes, more than what is in flight moves the count by."""


@pytest.fixture(autouse=True)
def _apart() -> Iterator[None]:
    """What earlier tests of this process left stays out of every collection: the oldest generation waits for growth by
    a quarter, so beside millions of objects the garbage of thousands of prompts would be counted as kept."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def _blocks_in_use() -> int:
    gc.collect()
    return sys.getallocatedblocks()


class _Leaking(MemoryTrace):
    """A trace beside which as many objects are kept per prompt as one trajectory has."""

    def __init__(self) -> None:
        super().__init__(_blocks_in_use)
        self.kept: list[list[str]] = []

    def advance(self, done: int, **shown: object) -> None:
        self.kept += [[f"field {place} of {done}" for place in range(60)] for _ in range(done - len(self.kept))]
        super().advance(done)


async def _blocks_per_prompt(folder: Path, trace: MemoryTrace) -> float:
    settings = null_run_file(NUM_PROMPTS, samples=1, arms=("filter",))
    run, plan = await sealed(folder, settings)
    await fly(folder, run, plan, null_generator(), observer=trace, cache_bytes=2**20)
    return trace.slope(after=NUM_PROMPTS // 2)


@pytest.mark.slow
async def test_no_object_of_a_finished_prompt_is_kept(tmp_path: Path) -> None:
    assert await _blocks_per_prompt(tmp_path, MemoryTrace(_blocks_in_use)) < KEPT_BLOCKS


@pytest.mark.slow
async def test_the_count_tells_when_a_record_of_each_is_kept(tmp_path: Path) -> None:
    assert await _blocks_per_prompt(tmp_path, _Leaking()) > KEPT_BLOCKS
