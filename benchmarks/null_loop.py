"""What the loop itself costs: units per second, memory and time to resume, with an engine that costs nothing."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cpu_parts import sampled_cpu
from benchmarks.one_flow import fly, null_generator, null_run_file, sealed

from tracemend.embedded.intake import prompts_of, units_of
from tracemend.embedded.plan import Plan
from tracemend.embedded.progress import Silent
from tracemend.embedded.workspace import open_workspace
from tracemend.kit.ports import Address
from tracemend.kit.pump import PumpStats
from tracemend.records import Outcome, OutcomeState

_CONCLUDE_AT_ONCE = 2000
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def measure_units(num_prompts: int) -> dict[str, Any]:
    """Trajectories per second through sample → judge → correct, in CPU and in wall time, with the CPU's shares."""

    async def body(folder: Path) -> dict[str, Any]:
        run, plan = await sealed(folder, null_run_file(num_prompts))
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        with sampled_cpu() as shares:
            flown = await fly(folder, run, plan, null_generator())
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        async with open_workspace(folder) as workspace:
            num_units = sum((await workspace.ledger.outcome_counts(run)).values())
        return {
            "num_prompts": num_prompts,
            "num_trajectories": flown.num_trajectories,
            "num_units": num_units,
            "num_by_stage": dict(flown.num_by_stage),
            "cpu_s": cpu_s,
            "wall_s": wall_s,
            "trajectories_per_cpu_s": flown.num_trajectories / cpu_s,
            "trajectories_per_s": flown.num_trajectories / wall_s,
            "units_per_cpu_s": num_units / cpu_s,
            "cpu_shares": shares.of_total(),
        }

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(body(Path(folder)))


def measure_memory(num_prompts: int, *, samples: int = 1) -> dict[str, Any]:
    """Resident memory while `num_prompts` go through, and its slope once caches are full."""
    trace = MemoryTrace(_resident_bytes)

    async def body(folder: Path) -> None:
        run, plan = await sealed(folder, null_run_file(num_prompts, samples=samples, arms=("filter",)))
        await fly(folder, run, plan, null_generator(), observer=trace)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(body(Path(folder)))
    return {
        "num_prompts": num_prompts,
        "first_mib": trace.points[0][1] / 2**20,
        "peak_mib": max(resident for _, resident in trace.points) / 2**20,
        "last_mib": trace.points[-1][1] / 2**20,
        "slope_bytes_per_prompt": trace.slope(after=num_prompts // 2),
    }


class MemoryTrace(Silent):
    """An observer that notes (prompts finished, what `measure` says is in use) whenever the flow shows itself."""

    def __init__(self, measure: Callable[[], int]) -> None:
        self.points: list[tuple[int, int]] = []
        self._measure = measure

    def advance(self, done: int, *, pumps: Sequence[PumpStats] = (), states: Mapping[str, int] | None = None) -> None:
        self.points.append((done, self._measure()))

    def slope(self, *, after: int) -> float:
        """Growth per prompt, by least squares over the points with at least `after` prompts finished."""
        points = [point for point in self.points if point[0] >= after]
        return statistics.linear_regression(*zip(*points, strict=True)).slope


def measure_resume(num_prompts: int) -> dict[str, Any]:
    """Seconds from opening a sealed run's folder to its first unfinished prompt, with nothing and with all but one of
    its prompts finished."""

    async def body(folder: Path) -> dict[str, Any]:
        started = time.perf_counter()
        settings = null_run_file(num_prompts, samples=1)
        run, plan = await sealed(folder, settings)
        times = {"num_prompts": num_prompts, "seal_s": time.perf_counter() - started}
        times["nothing_finished_s"] = await _time_to_first_prompt(folder, run, tuple(settings.arms))
        await _finish_all_but_last(folder, run, plan)
        times["nearly_finished_s"] = await _time_to_first_prompt(folder, run, tuple(settings.arms))
        return times

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(body(Path(folder)))


async def _time_to_first_prompt(folder: Path, run: str, arms: Sequence[str]) -> float:
    started = time.perf_counter()
    async with open_workspace(folder) as workspace:
        unfinished = await workspace.ledger.open_prompts(run, arms=arms)
        await anext(prompts_of(workspace, run, among=unfinished))
        return time.perf_counter() - started


async def _finish_all_but_last(folder: Path, run: str, plan: Plan) -> None:
    nowhere = Address(pack="0" * 64, offset=0, length=0, digest="0" * 64)
    async with open_workspace(folder) as workspace:
        prompts = [prompt async for prompt in prompts_of(workspace, run)]
        for start in range(0, len(prompts) - 1, _CONCLUDE_AT_ONCE):
            chosen = prompts[start : min(start + _CONCLUDE_AT_ONCE, len(prompts) - 1)]
            ends = [
                Outcome(id=f"outcome_{unit.arm}_{unit.prompt}_{unit.sample}", unit=unit, state=OutcomeState.KEPT)
                for prompt in chosen
                for unit in units_of(plan, prompt)
            ]
            await workspace.ledger.conclude(run, [(outcome, nowhere) for outcome in ends])


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
