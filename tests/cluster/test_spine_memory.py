"""The services keep nothing of a prompt that is finished: memory and descriptors are as many late in a run as early."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.spine_memory import Growth, growth, measure, resident_bytes, shown

NUM_PROMPTS = 50_000
KEPT_BYTES = 500.0
"""A trajectory that somebody holds on to takes 2,000 bytes or more as Python has it, and its id alone 100 of them; the
allocator and the clients' own buffers move the slope over 25,000 prompts by 100 to 200 bytes either way."""
KEPT_DESCRIPTORS = 1 / 1000
"""A socket or a file for each batch would be several times that; pools that fill late are a few in all."""
MOST_REDELIVERED = 0.05
"""Nothing is killed here; members that join late make others give up what they have in hand."""
_KEEPS = """
import sys
kept = []
for line in sys.stdin:
    kept += [[f"field {place} of {number}" for place in range(20)] for number in range(int(line))]
    print(flush=True)
"""


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_no_service_grows_with_the_prompts_that_are_finished(tmp_path: Path) -> None:
    found = await measure(tmp_path, NUM_PROMPTS, within_s=840)
    growing = {service: one for service, one in found.memory.items() if one.per_prompt >= KEPT_BYTES}
    growing |= {service: one for service, one in found.descriptors.items() if one.per_prompt >= KEPT_DESCRIPTORS}
    assert not growing, shown(found)
    assert found.num_lost == 0
    assert found.redelivery_ratio < MOST_REDELIVERED, shown(found)


def test_the_slope_tells_when_a_record_of_each_is_kept() -> None:
    assert _grown(kept_of=500).per_prompt > KEPT_BYTES
    assert abs(_grown(kept_of=0).per_prompt) < KEPT_BYTES


def _grown(*, kept_of: int) -> Growth:
    """Of a process that keeps something of `kept_of` of every 500 prompts."""
    with subprocess.Popen([sys.executable, "-c", _KEEPS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        points = []
        for number in range(20):
            process.stdin.write(f"{kept_of}\n".encode())
            process.stdin.flush()
            process.stdout.readline()
            points.append((500 * (number + 1), resident_bytes(process.pid)))
        process.stdin.close()
    return growth(points)
