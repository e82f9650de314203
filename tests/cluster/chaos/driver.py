"""A seeded run of the six services under faults, and what the oracle says of it.

    python -m tests.cluster.chaos.driver FOLDER [--prompts 20000] [--seed 0] [--faults kill,…] [--without …]

Needs the variables of real servers that may be broken (toxiproxy's as well for faults of the network) and
TRACEMEND_SERVERS_CTL for what breaks them. Which fault comes when, and what it befalls, is a function of the seed. The
kinds are injected in turn, each after the run has moved again, `--rounds` times (0: for as long as the run is under
way); the last line printed is the report, in JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.cluster.chaos.faults import DAMAGED_PLAN, KINDS, Faults
from tests.cluster.chaos.oracle import broken_promises, waste_of
from tests.cluster.chaos.s3_proxy import proxied
from tests.cluster.runs_compared import embedded, null_run
from tests.cluster.spine import Spine

from tracemend.embedded.runfile import RunFile
from tracemend.kit.crash_points import ASKING_AGAIN, WITHOUT
from tracemend.kit.run_states import RunState

SESSION_S = 6
_WINDOW = 256
"""Unfinished prompts at once."""
_STALLED_S = 300.0
"""Without an outcome for so long, with nothing broken, a run has lost something: a busy machine takes a minute to start
a broker, and services wait longer from try to try."""


@dataclasses.dataclass(slots=True)
class Report:
    """What a driver did and found."""

    seed: int
    num_prompts: int
    without: str
    faults: list[str] = dataclasses.field(default_factory=list)
    recovery_s: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    """By kind of fault: from its end to the next outcome."""
    seconds: float = 0.0
    is_done: bool = False
    num_outcomes: int = 0
    wasted_bytes: int = 0
    """Of blobs that nothing refers to."""
    num_judged_again: int = 0
    """Trajectories, as such blobs tell."""
    broken: list[str] = dataclasses.field(default_factory=list)


def chaos_run(num_prompts: int, *, rate: float = 0.0) -> RunFile:
    """Prompts of both categories, and the arm that needs every stage. `rate`: prompts a second at most, so that faults
    befall a run under way however fast the machine is; 0 is as many as go."""
    mean_s = _WINDOW / rate if rate else 0.07
    settings = null_run(limit=num_prompts, samples=1, engine_options={"delay_s": 0.5 * mean_s, "jitter_s": mean_s})
    prompts = [
        source.model_copy(update={"count": max(1, num_prompts * share // 5), "start": start})
        for source, share, start in zip(settings.prompts, (4, 1), (0, 10_000_000), strict=True)
    ]
    limits = settings.limits.model_copy(update={"unfinished_prompts": _WINDOW})
    arms = {"rewrite": settings.arms["rewrite"]}
    return settings.model_copy(update={"prompts": prompts, "limit": None, "arms": arms, "limits": limits})


async def drive(
    folder: Path,
    *,
    num_prompts: int,
    seed: int,
    faults: Sequence[str],
    without: Sequence[str],
    rounds: int,
    stalled_s: float,
    rate: float,
) -> Report:
    """Run it to its end, or until nothing moves any more."""
    settings = chaos_run(num_prompts, rate=rate)
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    expected = await embedded(chaos_run(num_prompts), folder / "embedded", cache=folder / "cache")
    report = Report(seed=seed, num_prompts=num_prompts, without=",".join(without))
    upstream = os.environ.get("S3_ENDPOINT_TOXIC") or os.environ["S3_ENDPOINT"]
    async with proxied(upstream, seed) as s3, Spine.on_servers(folder, session_s=SESSION_S) as spine:
        spine.settings |= {"S3_ENDPOINT": s3.endpoint, **_through_toxiproxy(spine), WITHOUT: ",".join(without)}
        chaos = Faults(
            spine=spine,
            random=random.Random(seed),
            s3=s3,
            session_s=SESSION_S,
            toxiproxy=os.environ.get("TOXIPROXY_URL", ""),
        )
        spine.start_all()
        run = chaos.run = await spine.submit(settings)
        await spine.wait_until(run, RunState.RUNNING, within_s=900)
        if DAMAGED_PLAN in faults:
            await chaos.damaged_plan()
        began_s = time.monotonic()
        planned = [kind for kind in faults if kind != DAMAGED_PLAN]
        coming = iter(planned * rounds) if rounds else itertools.cycle(planned)
        report.is_done = await _under(chaos, run, coming, report, stalled_s)
        report.seconds = round(time.monotonic() - began_s, 1)
        spine.stop_all()
        report.broken = await broken_promises(spine, run, expected)
        report.num_outcomes = sum((await spine.workspace.ledger.outcome_counts(run)).values())
        waste = await waste_of(spine)
        report.wasted_bytes, report.num_judged_again = waste.num_bytes, waste.num_verdicts
    return report


def _through_toxiproxy(spine: Spine) -> dict[str, str]:
    """The settings that take services through toxiproxy to the servers; this process goes to them directly."""
    kafka, postgres = os.environ.get("KAFKA_BOOTSTRAP_SERVERS_TOXIC"), os.environ.get("POSTGRES_DSN_TOXIC")
    if not kafka or not postgres:
        return {}
    direct, toxic = (urlsplit(dsn).netloc.rpartition("@")[2] for dsn in (os.environ["POSTGRES_DSN"], postgres))
    return {
        "TRACEMEND_BUS": spine.bus.replace(os.environ["KAFKA_BOOTSTRAP_SERVERS"], kafka),
        "TRACEMEND_LEDGER": spine.ledger.replace(direct, toxic),
    }


async def _under(chaos: Faults, run: str, coming: Iterator[str], report: Report, stalled_s: float) -> bool:
    """Inject one fault after the other until none comes or the run has ended; whether it is done at last."""
    while await _moves(chaos.spine, run, stalled_s):
        chaos.expect_all_alive()
        if (kind := next(coming, None)) is None:
            continue
        report.faults.append(await chaos.inject(kind))
        began_s = time.monotonic()
        if not await _moves(chaos.spine, run, stalled_s):
            break
        waited_s = round(time.monotonic() - began_s, 1)
        report.recovery_s.setdefault(kind, []).append(waited_s)
        print(json.dumps({"fault": report.faults[-1], "recovery_s": waited_s}), flush=True)
    record = await chaos.spine.tables.runs.get(run)
    return record is not None and record.state is RunState.DONE


async def _moves(spine: Spine, run: str, stalled_s: float) -> bool:
    """Wait for the next outcomes; False where the run has ended, or none come for long."""
    before, began_s = await _num_ended(spine, run), time.monotonic()
    while time.monotonic() - began_s < stalled_s:
        record = await spine.tables.runs.get(run)
        if record is None or record.state.is_final:
            return False
        if await _num_ended(spine, run) > before:
            return True
        await asyncio.sleep(0.2)
    return False


async def _num_ended(spine: Spine, run: str) -> int:
    return sum((await spine.workspace.ledger.outcome_counts(run)).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--faults", default=",".join(KINDS), help=f"comma list; also rewind, refused_writes, {DAMAGED_PLAN}"
    )
    parser.add_argument("--without", default=ASKING_AGAIN, help="comma list of protections to take away")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0, help="prompts a second at most; 0: as many as go")
    parser.add_argument("--stalled-s", type=float, default=_STALLED_S)
    options = parser.parse_args()
    kinds, without = ([word for word in text.split(",") if word] for text in (options.faults, options.without))
    if unknown := [kind for kind in kinds if not callable(getattr(Faults, kind, None))]:
        parser.error(f"unknown faults: {', '.join(unknown)}")
    driven = drive(
        options.folder,
        num_prompts=options.prompts,
        seed=options.seed,
        faults=kinds,
        without=without,
        rounds=options.rounds,
        stalled_s=options.stalled_s,
        rate=options.rate,
    )
    print(json.dumps(dataclasses.asdict(asyncio.run(driven))))


if __name__ == "__main__":
    main()
