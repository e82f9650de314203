"""What is measured of the cluster: jobs over real tables, backlogs over a bus that comes and goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tracemend.embedded.underway import PHASE
from tracemend.kit.bus_ports import Backlog
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import Address
from tracemend.programs.measuring import JobMeter, measure_backlogs
from tracemend.runtime.opening import open_ledger, open_server_tables
from tracemend.runtime.telemetry import ServiceTelemetry


def value(telemetry: ServiceTelemetry, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(telemetry.exposition()[0].decode()):
        for sample in family.samples:
            if sample.name == f"tracemend_{name}" and sample.labels == labels:
                return sample.value
    raise AssertionError(f"no {name}")


async def test_jobs_under_way_their_silence_and_the_age_of_the_last_checkpoint_are_told(tmp_path: Path) -> None:
    url, now_s = f"sqlite:{tmp_path / 'ledger.db'}", time.time()
    tables, ledger, telemetry = open_server_tables(url), open_ledger(url), ServiceTelemetry()
    meter = JobMeter(jobs=tables.jobs, ledger=ledger, telemetry=telemetry, clock=lambda: now_s)
    await ledger.open_run("run", plan="plan")
    for key, kind in (("a", "run"), ("b", "evaluation")):
        await tables.jobs.start(key, plan="plan", kind=kind, run="run")
    await tables.jobs.progress("a", 1, {"step": 3.0, "num_steps": 9.0, "loss": 0.5})
    await meter.look()
    assert value(telemetry, "jobs_running", kind="run") == 1
    assert value(telemetry, "training_step") == 3
    assert value(telemetry, "training_steps") == 9
    assert value(telemetry, "training_loss") == 0.5
    now_s += 600
    await meter.look()
    assert 590 < value(telemetry, "job_silence_seconds", kind="evaluation") < 610
    assert value(telemetry, "checkpoint_age_seconds") == 600
    address = Address(pack="0" * 64, offset=0, length=1, digest="0" * 64)
    await ledger.finish_phase("run", "key", name=f"{PHASE}:training", address=address)
    await meter.look()
    assert value(telemetry, "checkpoint_age_seconds") == 0
    for attempt in (2, 3):
        assert await tables.jobs.start("b", plan="plan", kind="evaluation", run="run") == attempt
    await meter.look()
    await meter.look()
    assert value(telemetry, "job_repeats_total", kind="evaluation") == 2
    for key in ("a", "b"):
        await tables.jobs.fail(key, 1 if key == "a" else 3, reason="crash")
    now_s += 600
    await meter.look()
    assert value(telemetry, "jobs_running", kind="run") == 0
    assert value(telemetry, "job_silence_seconds", kind="run") == 0
    assert value(telemetry, "checkpoint_age_seconds") == 0
    await tables.aclose()
    await ledger.aclose()


class ComesAndGoes:
    """`Backlogs` that answer at every third question."""

    def __init__(self) -> None:
        self.num_asked = 0
        self.is_closed = False

    async def read(self) -> Sequence[Backlog]:
        self.num_asked += 1
        if self.num_asked % 3:
            raise Retry("away") if self.num_asked % 2 else SetupError("never there")
        return [Backlog(group="judge", topic="t", num_items=self.num_asked, oldest_s=2.5, num_members=0)]

    async def aclose(self) -> None:
        self.is_closed = True


async def test_backlogs_are_told_again_once_a_bus_that_was_away_answers() -> None:
    backlogs, telemetry = ComesAndGoes(), ServiceTelemetry()
    measuring = asyncio.create_task(measure_backlogs(backlogs, telemetry, every_s=0.001))
    async with asyncio.timeout(10):
        while backlogs.num_asked < 7:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    measuring.cancel()
    await asyncio.gather(measuring, return_exceptions=True)
    assert value(telemetry, "backlog_items", group="judge", topic="t") >= 6
    assert value(telemetry, "backlog_seconds", group="judge", topic="t") == 2.5
    assert value(telemetry, "group_members", group="judge", topic="t") == 0
    assert backlogs.is_closed
