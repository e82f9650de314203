"""A ledger that the first release wrote opens in this one, on every database, with all that it held."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect
from tests.contract.ledgers import URLS, outcome
from tests.contract.old_ledgers import connect, write_first_release, write_second_schema

from tracemend.adapters.sql_ledger import SqlLedger
from tracemend.kit.ports import Address, Cost, RefusedRow
from tracemend.records import Unit

OPEN = Unit(arm="arm", prompt="p1", sample=0)


DATABASES = [pytest.param(name, marks=pytest.mark.servers) if name != "sqlite" else name for name in URLS]


@pytest.fixture(params=[write_first_release, write_second_schema], ids=["schema 1", "schema 2"])
def write_old(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Makes a ledger of an old schema."""
    write: Callable[[str], None] = request.param
    return write


@pytest.fixture(params=DATABASES)
def old_url(request: pytest.FixtureRequest, tmp_path: Path, write_old: Callable[[str], None]) -> str:
    """A ledger of an old schema."""
    url = URLS[request.param](tmp_path)
    write_old(url)
    return url


def test_a_migrated_ledger_has_the_tables_of_a_new_one(old_url: str, tmp_path: Path) -> None:
    scheme = old_url.partition(":")[0]
    new_url = URLS[scheme](tmp_path / "new")
    for url in (old_url, new_url):
        open_and_close(url)
    assert columns(old_url) == columns(new_url)


async def test_a_migrated_ledger_keeps_every_row(old_url: str) -> None:
    ledger = SqlLedger(old_url)
    assert await ledger.runs() == ["run"]
    assert (await ledger.run_plan("run"), await ledger.run_state("run")) == ("plan", "correcting")
    assert await ledger.intake("run") == (2, 1)
    assert [each.prompt async for each in ledger.admitted("run")] == ["p0", "p1"]
    refused = RefusedRow(row=2, reason="duplicate", detail="p0", source="file")
    assert [each async for each in ledger.refused("run")] == [refused]
    assert await ledger.results(["k"]) == {"k": Address(pack="work-pack", offset=3, length=7, digest="d3")}
    assert await ledger.begin(["crashed"], worker="w") == {"crashed": 2}
    assert await ledger.outcome_counts("run") == {("arm", "kept", ""): 1}
    assert [each.address.digest async for each in ledger.outcomes("run")] == ["d2"]
    assert await ledger.open_prompts("run") == {"p1"}
    assert [name for name, _, _ in await ledger.phases("run")] == ["train"]
    old_cost = Cost(stage="judge", num_items=3, num_prompt_tokens=30, num_new_tokens=15, seconds=1.5, money=0.75)
    assert await ledger.costs("run") == [old_cost]
    await ledger.aclose()


async def test_a_migrated_ledger_goes_on_where_the_old_one_was(old_url: str) -> None:
    ledger = SqlLedger(old_url)
    await ledger.conclude("run", [outcome(OPEN)])
    await ledger.book_cost("run", Cost(stage="judge", num_items=1, num_prompt_tokens=9, num_cached_tokens=8), by="a")
    assert await ledger.open_prompts("run") == set()
    (cost,) = await ledger.costs("run")
    assert (cost.num_items, cost.num_prompt_tokens, cost.num_cached_tokens) == (4, 39, 8)
    await ledger.aclose()


def test_several_may_open_an_old_ledger_at_the_same_moment(old_url: str) -> None:
    opened: list[str] = []

    def migrate() -> None:
        open_and_close(old_url)
        opened.append(old_url)

    threads = [threading.Thread(target=migrate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(opened) == 6


def open_and_close(url: str) -> None:
    asyncio.run(SqlLedger(url).aclose())


def columns(url: str) -> dict[str, set[Any]]:
    """Name, type, default and whether it may be null, of each table's columns."""
    with connect(url) as connection:
        found = inspect(connection)
        return {
            table: {
                (column["name"], str(column["type"]), column["nullable"], column["default"])
                for column in found.get_columns(table)
            }
            for table in found.get_table_names()
        }
