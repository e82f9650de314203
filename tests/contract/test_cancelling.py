"""A cancelled run leaves nothing open, over every database: each unit has one outcome, by its own end or cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.ledgers import URLS, outcome, prompt

from tracemend.adapters.folder_store import FolderStore
from tracemend.adapters.sql_ledger import SqlLedger
from tracemend.kit.cancelling import close_open_units
from tracemend.kit.ports import Ledger
from tracemend.kit.results import Results
from tracemend.records import Outcome, Unit
from tracemend.topics import ALL
from tracemend.wire import WireCodec

UNITS = [Unit(arm=arm, prompt=f"p{row}", sample=sample) for arm in "ab" for row in range(5) for sample in range(2)]


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.servers) if name != "sqlite" else name for name in URLS])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    """With a run of five prompts, two samples each, in two arms."""
    opened = SqlLedger(URLS[request.param](tmp_path))
    await opened.open_run("run", plan="plan")
    await opened.admit("run", prompts=[prompt(row) for row in range(5)], refused=[], units=UNITS)
    yield opened
    await opened.aclose()


@pytest.fixture
def results(ledger: Ledger, tmp_path: Path) -> Results:
    return Results(store=FolderStore(tmp_path / "store"), ledger=ledger, codec=WireCodec(), topics=ALL)


async def test_open_units_are_told_with_their_epochs(ledger: Ledger) -> None:
    assert await ledger.open_units("run") == [(unit, 0) for unit in UNITS]
    assert await ledger.open_units("run", limit=3) == [(unit, 0) for unit in UNITS[:3]]
    await ledger.conclude("run", [outcome(unit) for unit in UNITS[:3]])
    assert await ledger.open_units("run", limit=1) == [(UNITS[3], 0)]
    await ledger.reopen("run", arm="a", prompts=["p0"])
    assert await ledger.open_units("run", limit=3) == [(UNITS[0], 1), (UNITS[1], 1), (UNITS[3], 0)]
    assert await ledger.open_units("other") == []


async def test_what_is_open_ends_as_cancelled_and_what_ended_stays(ledger: Ledger, results: Results) -> None:
    await ledger.conclude("run", [outcome(unit) for unit in UNITS[:4]])
    await ledger.reopen("run", arm="a", prompts=["p0"])
    assert await close_open_units("run", ledger=ledger, results=results, reason="user", at_once=3) == 18
    assert await ledger.open_prompts("run") == set()
    assert await ledger.outcome_counts("run") == {
        ("a", "kept", ""): 2,
        ("a", "cancelled", "user"): 8,
        ("b", "cancelled", "user"): 10,
    }
    assert await close_open_units("run", ledger=ledger, results=results) == 0


async def test_cancelled_outcomes_are_records_like_any_others(ledger: Ledger, results: Results) -> None:
    await close_open_units("run", ledger=ledger, results=results, reason="user")
    async for ended in ledger.outcomes("run"):
        ((_, record),) = await results.read(ended.address)
        assert isinstance(record, Outcome)
        assert (record.unit, record.state.value, record.reason) == (ended.unit, "cancelled", "user")
