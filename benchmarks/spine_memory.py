"""Soak: memory and descriptors of the six services while prompts go through, and what went through twice.

    eval "$(infra env)"; python -m benchmarks.spine_memory [--prompts 1000000] [--cores 2]

One run with an engine that costs nothing. Every second the number of its outcomes, and the resident memory and the open
descriptors of every service are noted; a slope is that of least squares over the second half of the prompts. By then
caches are full (they are made small here), pools are open, and the memory that sealing took is back in use or given
back: what still grows is kept per prompt. The redelivery ratio is the share of all work that had been done before when
it came; a prompt without its outcome, or with two, is an error.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

from benchmarks.spine import NEEDED, run_file
from tests.cluster.spine import SERVICES, Spine, free_port

from tracemend.cli.scraping import scraped
from tracemend.kit.run_states import RunState
from tracemend.kit.telemetry import ITEMS

CACHE_MIB = 4
"""Of results in each service: full after a few thousand prompts."""
WINDOW = 2048
_EVERY_S = 1.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Of something that one service holds."""

    first: float
    """When the run began."""
    last: float
    per_prompt: float
    """Slope over the second half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Soaked:
    """What a run has done to the services."""

    memory: Mapping[str, Growth]
    """Resident bytes, by service."""
    descriptors: Mapping[str, Growth]
    """Open ones, by service."""
    redelivery_ratio: float
    """Work that came again after it was done ÷ all work that came."""
    num_lost: int
    """Prompts without an outcome, or with more than one."""
    took_s: float
    """From the first outcome to the last."""


def resident_bytes(pid: int) -> int:
    """What a process has in memory now."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * _PAGE_BYTES


def num_descriptors(pid: int) -> int:
    """Files and sockets that a process has open now."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def growth(points: Sequence[tuple[int, int]]) -> Growth:
    """Of (prompts finished, how much of it), in order."""
    half = points[-1][0] / 2
    late = [point for point in points if point[0] >= half]
    slope = linear_regression(*zip(*late, strict=True)).slope
    return Growth(first=points[0][1], last=points[-1][1], per_prompt=slope)


async def measure(folder: Path, num_prompts: int, *, within_s: float) -> Soaked:
    """Of a run over `num_prompts`; `TimeoutError` after `within_s`."""
    async with Spine.on_servers(folder, TRACEMEND_CACHE_MIB=str(CACHE_MIB)) as spine, asyncio.timeout(within_s):
        pages = {service: free_port() for service in SERVICES}
        spine.own_settings = {service: {"TRACEMEND_HTTP_PORT": str(port)} for service, port in pages.items()}
        spine.start_all()
        run = await spine.submit(run_file(num_prompts, window=WINDOW, name="memory"))
        await spine.wait_until(run, RunState.RUNNING, within_s=within_s)
        memory: dict[str, list[tuple[int, int]]] = {service: [] for service in SERVICES}
        descriptors: dict[str, list[tuple[int, int]]] = {service: [] for service in SERVICES}
        began_s, num_ended = time.monotonic(), 0
        while num_ended < num_prompts:
            num_ended = sum((await spine.workspace.ledger.outcome_counts(run)).values())
            for service, process in spine.processes.items():
                memory[service].append((num_ended, resident_bytes(process.pid)))
                descriptors[service].append((num_ended, num_descriptors(process.pid)))
            await asyncio.sleep(_EVERY_S)
        took_s = time.monotonic() - began_s
        await spine.wait_done(run, within_s=within_s)
        return Soaked(
            memory={service: growth(its) for service, its in memory.items()},
            descriptors={service: growth(its) for service, its in descriptors.items()},
            redelivery_ratio=await _redelivery_ratio(pages.values()),
            num_lost=await _num_lost(spine, run, num_prompts),
            took_s=took_s,
        )


async def _redelivery_ratio(ports: Iterable[int]) -> float:
    scrapes = await scraped([f"http://127.0.0.1:{port}/metrics" for port in ports])
    troubles = [scrape.trouble for scrape in scrapes if scrape.trouble]
    if troubles:
        raise RuntimeError(f"a service does not answer: {troubles}")
    num_items: Counter[str] = Counter()
    for sample in (sample for scrape in scrapes for sample in scrape.of_name(ITEMS)):
        num_items[sample.labels["outcome"]] += int(sample.value)
    return num_items["replayed"] / num_items.total()


async def _num_lost(spine: Spine, run: str, num_prompts: int) -> int:
    """Over what the ledger lists, not over what it has counted."""
    by_prompt = Counter([each.unit.prompt async for each in spine.workspace.ledger.outcomes(run)])
    return num_prompts - sum(number == 1 for number in by_prompt.values())


def shown(found: Soaked) -> str:
    """A line per service, and one of them all."""
    lines = [
        f"{service}: {one.first / 2**20:,.0f} → {one.last / 2**20:,.0f} MiB, {one.per_prompt:+,.0f} bytes per prompt "
        f"over the second half; {found.descriptors[service].first:.0f} → {found.descriptors[service].last:.0f} "
        f"descriptors, {1000 * found.descriptors[service].per_prompt:+.3f} per 1,000 prompts"
        for service, one in found.memory.items()
    ]
    return "\n".join([*lines, f"redelivered {found.redelivery_ratio:.2%} of all work; {found.num_lost} prompts lost"])


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
        found = asyncio.run(measure(Path(folder), options.prompts, within_s=24 * 3600))
    print(shown(found))
    python = platform.python_version()
    print(f"{options.prompts:,} prompts in {found.took_s:,.0f} s, {options.cores} cores, Python {python}")
    raise SystemExit(bool(found.num_lost))


if __name__ == "__main__":
    main()
