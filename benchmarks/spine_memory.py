"""Resident memory of the six services while prompts go through, and its growth per prompt.

    eval "$(infra env)"; python -m benchmarks.spine_memory [--prompts 1000000] [--cores 2]

One run with an engine that costs nothing. Every second the number of its outcomes and the resident memory of every
service are noted; the slope is that of least squares over the second half of the prompts. By then caches are full (they
are made small here), pools are open, and the memory that sealing took is back in use or given back: what still grows is
kept per prompt.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

from benchmarks.spine import NEEDED, run_file
from tests.cluster.spine import Spine

from tracemend.kit.run_states import RunState

CACHE_MIB = 4
"""Of results in each service: full after a few thousand prompts."""
WINDOW = 2048
_EVERY_S = 1.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One service's memory."""

    first_bytes: float
    """When the run began."""
    last_bytes: float
    bytes_per_prompt: float
    """Slope over the second half."""


def resident_bytes(pid: int) -> int:
    """What a process has in memory now."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * _PAGE_BYTES


def growth(points: Sequence[tuple[int, int]]) -> Growth:
    """Of (prompts finished, bytes in memory), in order."""
    half = points[-1][0] / 2
    late = [point for point in points if point[0] >= half]
    slope = linear_regression(*zip(*late, strict=True)).slope
    return Growth(first_bytes=points[0][1], last_bytes=points[-1][1], bytes_per_prompt=slope)


async def measure(folder: Path, num_prompts: int, *, within_s: float) -> tuple[dict[str, Growth], float]:
    """Growth by service, and seconds from the first outcome to the last; `TimeoutError` after `within_s`."""
    async with Spine.on_servers(folder, TRACEMEND_CACHE_MIB=str(CACHE_MIB)) as spine, asyncio.timeout(within_s):
        spine.start_all()
        run = await spine.submit(run_file(num_prompts, window=WINDOW, name="memory"))
        await spine.wait_until(run, RunState.RUNNING, within_s=within_s)
        points: dict[str, list[tuple[int, int]]] = {service: [] for service in spine.processes}
        began_s, num_ended = time.monotonic(), 0
        while num_ended < num_prompts:
            num_ended = sum((await spine.workspace.ledger.outcome_counts(run)).values())
            for service, process in spine.processes.items():
                points[service].append((num_ended, resident_bytes(process.pid)))
            await asyncio.sleep(_EVERY_S)
        return {service: growth(its) for service, its in points.items()}, time.monotonic() - began_s


def shown(found: Mapping[str, Growth]) -> str:
    """A line per service."""
    return "\n".join(
        f"{service}: {one.first_bytes / 2**20:,.0f} → {one.last_bytes / 2**20:,.0f} MiB, "
        f"{one.bytes_per_prompt:+,.0f} bytes per prompt over the second half"
        for service, one in found.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=1_000_000)
    parser.add_argument("--cores", type=int, default=2, help="for the services")
    options = parser.parse_args()
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        parser.error(f"set {', '.join(missing)}: the addresses of real servers")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    with tempfile.TemporaryDirectory() as folder:
        found, took_s = asyncio.run(measure(Path(folder), options.prompts, within_s=24 * 3600))
    print(shown(found))
    print(f"{options.prompts:,} prompts in {took_s:,.0f} s, {options.cores} cores, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
