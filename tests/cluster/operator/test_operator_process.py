"""`tracemend serve operator` as a process: it hears of runs at once, dies and comes back, waits for its API server, and
leaves when told to."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.cluster.operator.links import open_link
from tests.cluster.operator.sites import Site, open_site, operator
from tests.needs import needs_kubernetes


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as opened:
        yield opened


async def phase_is(site: Site, name: str, phase: str, log: Path) -> None:
    for _ in range(300):
        run = await site.api.call("GET", site.path("TrainingRun", name))
        if run is not None and run.get("status", {}).get("phase") == phase:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{name} is not {phase}\n{log.read_text()[-3000:]}")


async def test_it_runs_what_is_asked_for_and_goes_on_after_a_kill(site: Site, tmp_path: Path) -> None:
    log = tmp_path / "operator.log"
    with operator(site, tmp_path) as process:
        await site.create("a")
        await phase_is(site, "a", "Running", log)
        process.kill()
    await site.end_pods("trainingrun-a-1", code=1)
    with operator(site, tmp_path) as process:
        await phase_is(site, "a", "Restarting", log)
        await site.create("b")
        await phase_is(site, "b", "Running", log)
        await site.end_pods("trainingrun-b-1")
        await phase_is(site, "b", "Succeeded", log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0, log.read_text()[-3000:]


async def test_it_outlives_an_api_server_that_is_away_and_does_not_spin_meanwhile(site: Site, tmp_path: Path) -> None:
    log = tmp_path / "operator.log"
    async with open_link(needs_kubernetes(), tmp_path) as (link, kubeconfig):
        with operator(site, tmp_path, KUBECONFIG=kubeconfig, TRACEMEND_RESYNC_S="3") as process:
            await site.create("a")
            await phase_is(site, "a", "Running", log)
            await link.down()
            await site.end_pods("trainingrun-a-1")
            await site.create("b")
            before_s = processor_s(process.pid)
            await asyncio.sleep(8)
            assert processor_s(process.pid) - before_s < 3, "it asks again and again without waiting"
            await link.up()
            await phase_is(site, "a", "Succeeded", log)
            await phase_is(site, "b", "Running", log)
            assert process.poll() is None


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
