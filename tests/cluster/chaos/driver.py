"""A seeded run of the six services under faults, and what the oracle says of it.

    python -m tests.cluster.chaos.driver FOLDER [--prompts 400] [--seed 0] [--faults services,…] [--without …]

Needs the variables of real servers that may be broken, and TRACEMEND_SERVERS_CTL for those that break them. The
schedule (which service dies when, and at which crash point) is a function of the seed; the last line printed is the
report, in JSON. Faults are injected while the run is under way, each after more outcomes have come, and the report says
which ones were.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.chaos.oracle import broken_promises, num_wasted
from tests.cluster.runs_compared import embedded, null_run
from tests.cluster.spine import SERVICES, Spine
from tests.servers import broken, needs_control

from tracemend.kit.crash_points import CRASH_AT, PLACES, WITHOUT
from tracemend.kit.run_states import RunState

STAGES = ("generator", "judge", "corrector")
SERVERS = ("kafka-1", "minio", "postgres")
FAULTS = ("services", "stages", "servers", "crash_points", "rewind")
_STALLED_S = 75.0
"""Without an outcome for so long, a run has lost something: twice what a group takes to notice a dead member."""


@dataclasses.dataclass(slots=True)
class Report:
    """What a driver did and found."""

    seed: int
    num_prompts: int
    faults: list[str] = dataclasses.field(default_factory=list)
    recovery_s: list[float] = dataclasses.field(default_factory=list)
    """From each fault to the next outcome."""
    seconds: float = 0.0
    is_done: bool = False
    num_outcomes: int = 0
    num_wasted: int = 0
    """Blobs that nothing refers to."""
    broken: list[str] = dataclasses.field(default_factory=list)


class Chaos:
    """Injects faults into one run."""

    def __init__(self, spine: Spine, run: str, report: Report) -> None:
        self._spine = spine
        self._run = run
        self._report = report
        self._random = random.Random(report.seed)

    async def inject(self, kinds: Sequence[str]) -> None:
        for kind in kinds:
            await getattr(self, f"_{kind}")()

    async def _services(self) -> None:
        await self._kill(SERVICES)

    async def _stages(self) -> None:
        await self._kill(STAGES)

    async def _kill(self, services: Sequence[str]) -> None:
        """SIGKILL in a seeded order, together: what is in flight between them goes at once."""
        for service in self._random.sample(services, len(services)):
            assert self._spine.kill(service) == -signal.SIGKILL
            self._spine.start(service)
        await self._recovered(f"SIGKILL {' '.join(services)}")

    async def _servers(self) -> None:
        for server in self._random.sample(SERVERS, len(SERVERS)):
            how = self._random.choice(("kill", "pause"))
            await asyncio.to_thread(self._break, server, how)
            await self._recovered(f"{how} {server}")

    def _break(self, server: str, how: str) -> None:
        with broken(needs_control(), server, how):
            time.sleep(self._random.uniform(1.0, 4.0))

    async def _crash_points(self) -> None:
        """A service dies at each named place of its pump, and starts again without the place."""
        for place in self._random.sample(PLACES, len(PLACES)):
            service = self._random.choice(STAGES)
            self._spine.kill(service, how=signal.SIGTERM)
            self._spine.settings[CRASH_AT] = f"{place}:{self._random.randint(1, 3)}"
            process = self._spine.start(service)
            del self._spine.settings[CRASH_AT]
            try:
                code = await asyncio.to_thread(process.wait, _STALLED_S)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{service} never came to {place}: give the run more prompts") from None
            assert code == -signal.SIGKILL, f"{service} ended by itself ({code})\n{self._spine.log(service)[-2000:]}"
            self._spine.start(service)
            await self._recovered(f"{service} {place}")

    async def _rewind(self) -> None:
        """Everything that the judge has read comes to it again."""
        self._spine.kill("judge", how=signal.SIGTERM)
        await asyncio.to_thread(rewind, self._spine, "judge")
        self._spine.start("judge")
        await self._recovered("rewind judge")

    async def _recovered(self, fault: str) -> None:
        record = await self._spine.tables.runs.get(self._run)
        assert record is not None
        assert record.state is RunState.RUNNING, f"{fault} came when the run was {record.state}: give it more prompts"
        began_s = time.monotonic()
        self._report.faults.append(fault)
        try:
            await self._spine.wait_progress(self._run, 1, within_s=_STALLED_S)
        except TimeoutError:
            return  # the oracle says what is missing
        self._report.recovery_s.append(round(time.monotonic() - began_s, 1))


def rewind(spine: Spine, group: str) -> None:
    """Set the offsets of a group without members to the beginning."""
    from kafka.structs import OffsetAndMetadata, TopicPartition

    from tracemend.adapters.kafka_clients import open_consumer, settings_of

    settings = settings_of(spine.bus)
    consumer = open_consumer(settings, group=group)
    names = [name for name in consumer.topics() if name.startswith(settings.named(""))]
    partitions = [TopicPartition(name, each) for name in names for each in consumer.partitions_for_topic(name) or ()]
    consumer.assign(partitions)
    read = [partition for partition in partitions if consumer.committed(partition)]
    assert read, f"{group} has read nothing"
    consumer.commit({partition: OffsetAndMetadata(0, "", -1) for partition in read})
    consumer.close(autocommit=False)


async def ended(spine: Spine, run: str) -> bool:
    """Whether the run came to its end; False once nothing has moved for long enough."""
    last, moved_s = -1, time.monotonic()
    while time.monotonic() - moved_s < _STALLED_S:
        record = await spine.tables.runs.get(run)
        if record is not None and record.state.is_final:
            return record.state is RunState.DONE
        number = sum((await spine.workspace.ledger.outcome_counts(run)).values())
        if number != last:
            last, moved_s = number, time.monotonic()
        await asyncio.sleep(0.5)
    return False


async def drive(folder: Path, *, num_prompts: int, seed: int, faults: Sequence[str], without: str) -> Report:
    settings = null_run(limit=num_prompts, engine_options={"delay_s": 0.05, "jitter_s": 0.2})
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    expected = await embedded(settings, folder / "embedded", cache=folder / "cache")
    report = Report(seed=seed, num_prompts=num_prompts)
    options = {"TRACEMEND_CONCURRENCY": "16", **({WITHOUT: without} if without else {})}
    async with Spine.on_servers(folder, **options) as spine:
        spine.start_all()
        run = await spine.submit(settings)
        began_s = time.monotonic()
        await spine.wait_until(run, RunState.RUNNING)
        await spine.wait_progress(run, 50)
        await Chaos(spine, run, report).inject(faults)
        report.is_done = await ended(spine, run)
        report.seconds = round(time.monotonic() - began_s, 1)
        spine.stop_all()
        report.broken = await broken_promises(spine, run, expected)
        report.num_outcomes = sum((await spine.workspace.ledger.outcome_counts(run)).values())
        report.num_wasted = await num_wasted(spine)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", default="services,servers,crash_points", help=f"comma list of {', '.join(FAULTS)}")
    parser.add_argument("--without", default="", help="comma list of protections to take away")
    options = parser.parse_args()
    faults = [fault for fault in options.faults.split(",") if fault]
    if unknown := set(faults) - set(FAULTS):
        parser.error(f"unknown faults: {', '.join(sorted(unknown))}")
    driven = drive(
        options.folder, num_prompts=options.prompts, seed=options.seed, faults=faults, without=options.without
    )
    print(json.dumps(dataclasses.asdict(asyncio.run(driven))))


if __name__ == "__main__":
    main()
