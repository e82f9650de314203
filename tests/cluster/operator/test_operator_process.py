"""`tracemend serve operator` as a process: it hears of runs at once, dies and comes back, and leaves when told to."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.cluster.operator.sites import Site, open_site, operator


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
