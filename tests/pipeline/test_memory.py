"""The loop keeps nothing of a prompt that is finished: memory over a long run is flat."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.null_loop import MemoryTrace
from benchmarks.one_flow import fly, null_generator, null_run_file, sealed

NUM_PROMPTS = 8_000
KEPT_BYTES = 2500
"""Less than a finished prompt's records take, more than the page cache of the database still grows by at this size."""


class _Kept(MemoryTrace):
    """A trace beside which something is kept per prompt, as a leak would."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[bytes] = []

    def advance(self, done: int, **shown: object) -> None:
        self.kept += [bytes(2 * KEPT_BYTES) for _ in range(done - len(self.kept))]
        super().advance(done)


async def _slope_bytes(folder: Path, trace: MemoryTrace) -> float:
    settings = null_run_file(NUM_PROMPTS, samples=1, arms=("filter",))
    run, plan = await sealed(folder, settings)
    await fly(folder, run, plan, null_generator(), observer=trace, cache_bytes=2**20)
    return trace.slope_bytes(after=NUM_PROMPTS // 2)


@pytest.mark.slow
async def test_memory_does_not_grow_with_the_prompts_that_are_finished(tmp_path: Path) -> None:
    assert await _slope_bytes(tmp_path, MemoryTrace()) < KEPT_BYTES


@pytest.mark.slow
async def test_the_slope_tells_when_finished_prompts_are_kept(tmp_path: Path) -> None:
    assert await _slope_bytes(tmp_path, _Kept()) > KEPT_BYTES
