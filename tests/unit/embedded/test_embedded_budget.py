"""A limit stops long work that cannot look at the ledger itself, and says how to go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tracemend.embedded.budget import WALL, Budget, BudgetSpent
from tracemend.embedded.runfile import LimitSettings
from tracemend.embedded.workspace import open_workspace
from tracemend.kit.ports import Cost, Ledger


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with open_workspace(tmp_path) as workspace:
        await workspace.ledger.open_run("run", plan="plan")
        yield workspace.ledger


class Endless:
    """Work that takes for ever and needs a moment to stop."""

    def __init__(self) -> None:
        self.state = "new"
        self.began = asyncio.Event()

    async def run(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            self.state = "stopped"


async def test_work_within_the_limits_gives_its_result(ledger: Ledger) -> None:
    async def work() -> str:
        return "done"

    assert await Budget(LimitSettings(hours=1), ledger=ledger, run="run").over(work()) == "done"


@pytest.mark.parametrize("limits", [LimitSettings(hours=2), LimitSettings(tokens=10), LimitSettings(money=0.5)])
async def test_a_reached_limit_stops_the_work_before_it_is_told(ledger: Ledger, limits: LimitSettings) -> None:
    await ledger.book_cost("run", Cost(stage="judge", num_new_tokens=10, money=0.5), by="a")
    work, now_s = Endless(), iter(range(0, 100_000, 4000))
    budget = Budget(limits, ledger=ledger, run="run", clock=lambda: float(next(now_s)))
    with pytest.raises(BudgetSpent, match="raise the limit in the run file and run the same command again"):
        await budget.over(work.run())
    assert work.state == "stopped"


async def test_what_the_work_raises_comes_out_as_it_is(ledger: Ledger) -> None:
    async def work() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError):
        await Budget(LimitSettings(), ledger=ledger, run="run").over(work())


async def test_who_is_cancelled_stops_the_work_as_well(ledger: Ledger) -> None:
    work = Endless()
    waiting = asyncio.create_task(Budget(LimitSettings(), ledger=ledger, run="run").over(work.run()))
    await work.began.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.state == "stopped"


async def test_time_before_the_run_had_its_name_is_booked(ledger: Ledger) -> None:
    budget = Budget(LimitSettings(), ledger=ledger, run="run", clock=lambda: 100.0, since_s=40.0)
    await budget.book()
    assert [(cost.stage, cost.seconds) for cost in await ledger.costs("run")] == [(WALL, 60.0)]
