"""Outcomes per second of the six services, beside a raw kafka-python loop of as many hops.

    eval "$(infra env)"; python -m benchmarks.spine [--prompts 4000] [--rounds 3] [--cores 2] [--window 2048]

Both arms run in turn on the same real Kafka, S3 store and PostgreSQL, their processes held to the same cores (the
servers may use all). The services take prompts through generate → judge → correct → record with an engine that costs
nothing; the raw loop (`benchmarks.raw_spine`) moves the same bytes, writes as many packs, makes the same transactions
and decides nothing. Start-up is left out: from the moment that the run may be fed until its last outcome is in the
ledger. Prints the rates, their ratio, and CPU time per outcome by process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import raw_spine
from benchmarks.one_flow import null_run_file
from tests.cluster.spine import Spine

from tracemend.embedded.runfile import RunFile
from tracemend.kit.run_states import RunState

GOAL = 0.5
NEEDED = ("KAFKA_BOOTSTRAP_SERVERS", "S3_ENDPOINT", "POSTGRES_DSN")
_LOOK_EVERY_S = 0.05
_PATIENCE_S = 1800.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One arm, once."""

    rate: float
    """Outcomes per second."""
    cpu_us: Mapping[str, float]
    """CPU time per outcome, by process."""


def run_file(num_prompts: int, *, window: int, name: str) -> RunFile:
    """One sample of each prompt and one arm: every prompt is one message per hop, and one outcome."""
    settings = null_run_file(num_prompts, samples=1, arms=(raw_spine.ARM,))
    limits = settings.limits.model_copy(update={"unfinished_prompts": window})
    return settings.model_copy(update={"name": name, "limits": limits})


async def serve_round(folder: Path, num_prompts: int, *, window: int, examples: Path) -> Round:
    """The services; keeps what they sent in `examples`."""
    async with Spine.on_servers(folder) as spine:
        spine.start_all()
        await spine.wait_done(await spine.submit(run_file(20, window=window, name="warm")))
        run = await spine.submit(run_file(num_prompts, window=window, name="measured"))
        await spine.wait_until(run, RunState.RUNNING)
        found = await _timed(spine, run, num_prompts, spine.processes)
        await asyncio.to_thread(raw_spine.keep_examples, spine.bus, examples, target=spine.target)
        return found


async def raw_round(folder: Path, num_prompts: int, *, examples: Path) -> Round:
    """The raw loop, with servers' things of its own."""
    async with Spine.on_servers(folder) as spine:
        await raw_spine.prepare(spine.workspace, num_prompts)
        job = raw_spine.Job(
            bus=spine.bus,
            store=spine.store,
            ledger=spine.ledger,
            folder=str(examples),
            target=spine.target,
            num_prompts=num_prompts,
        )
        with raw_spine.running(job) as processes:
            raw_spine.begin(processes)
            return await _timed(spine, raw_spine.RUN, num_prompts, processes)


async def _timed(spine: Spine, run: str, number: int, processes: Mapping[str, subprocess.Popen[bytes]]) -> Round:
    """Until the last of `number` outcomes is in the ledger."""
    began_s, before = time.perf_counter(), _cpu_seconds(processes)
    async with asyncio.timeout(_PATIENCE_S):
        while sum((await spine.workspace.ledger.outcome_counts(run)).values()) < number:
            ended = {name: process.poll() for name, process in processes.items()}
            dead = [f"{name} with {code}" for name, code in ended.items() if code is not None]
            if dead:
                raise RuntimeError(f"before the run did, there ended {', '.join(dead)}; logs in {spine.folder}")
            await asyncio.sleep(_LOOK_EVERY_S)
    took_s, after = time.perf_counter() - began_s, _cpu_seconds(processes)
    return Round(rate=number / took_s, cpu_us={name: (after[name] - before[name]) / number * 1e6 for name in processes})


def _cpu_seconds(processes: Mapping[str, subprocess.Popen[bytes]]) -> dict[str, float]:
    """User and system time of each so far."""
    return {name: _ticks(process.pid) / _TICKS for name, process in processes.items()}


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def measure(*, num_prompts: int, rounds: int, window: int) -> dict[str, list[Round]]:
    """Both arms in turn; the services first, whose messages the raw loop repeats."""
    found: dict[str, list[Round]] = {"services": [], "raw": []}
    with tempfile.TemporaryDirectory() as scratch:
        examples = Path(scratch)
        arms: dict[str, Callable[[Path], Awaitable[Round]]] = {
            "services": lambda folder: serve_round(folder, num_prompts, window=window, examples=examples),
            "raw": lambda folder: raw_round(folder, num_prompts, examples=examples),
        }
        for number in range(rounds):
            for name, arm in arms.items():
                folder = examples / f"{name}-{number}"
                folder.mkdir()
                found[name].append(await arm(folder))
                print(f"{name}: {_told(found[name][-1])}", flush=True)
    return found


def _told(one: Round) -> str:
    shares = ", ".join(f"{name} {us:,.0f}" for name, us in one.cpu_us.items())
    return f"{one.rate:,.0f} outcomes/s; µs of CPU per outcome: {sum(one.cpu_us.values()):,.0f} ({shares})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2, help="for the processes of either arm")
    parser.add_argument("--window", type=int, default=2048, help="prompts in the loop at once")
    options = parser.parse_args()
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        parser.error(f"set {', '.join(missing)}: the addresses of real servers")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    found = asyncio.run(measure(num_prompts=options.prompts, rounds=options.rounds, window=options.window))
    rates = {name: median(one.rate for one in ones) for name, ones in found.items()}
    costs = {name: median(sum(one.cpu_us.values()) for one in ones) for name, ones in found.items()}
    ratio = median(ours.rate / raw.rate for ours, raw in zip(found["services"], found["raw"], strict=True))
    print(f"services {rates['services']:,.0f}, raw {rates['raw']:,.0f} outcomes/s (medians)")
    print(f"services ÷ raw: {ratio:.2f} (goal {GOAL}); by CPU time {costs['raw'] / costs['services']:.2f}")
    print(f"{options.prompts:,} prompts, {options.cores} cores, Python {platform.python_version()}")
    sys.exit(ratio < GOAL)


if __name__ == "__main__":
    main()
