"""What kills, races and foreign files do to the SQL ledger on SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.contract.crash_writers import BATCH, address_of
from tests.contract.ledgers import address, prompt, sqlite_url

from tracemend.adapters.sql_ledger import SqlLedger
from tracemend.kit.errors import SetupError
from tracemend.records import Unit

WRITER = Path(__file__).with_name("crash_writers.py")


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(WRITER), *arguments], stdout=subprocess.PIPE, text=True)


# ------------------------------------------------------------------------------------------- processes


async def plan_units(url: str, arms: list[str], num_prompts: int) -> None:
    ledger = SqlLedger(url)
    await ledger.open_run("run", plan="p")
    prompts = [prompt(row) for row in range(num_prompts)]
    units = [Unit(arm=arm, prompt=each.prompt) for arm in arms for each in prompts]
    await ledger.admit("run", prompts=prompts, refused=[], units=units)
    await ledger.aclose()


def batches_before_being_killed(url: str, name: str, after_s: float) -> int:
    """How many batches a writer reported until it was killed, `after_s` after its first."""
    with start("ledger", url, name) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(after_s)
        writer.kill()
        return len([line for line in (first, *writer.stdout) if line.endswith("\n")])


async def check_batches(ledger: SqlLedger, name: str, num_told: int) -> int:
    """Every batch is there whole or not at all, and each that was told is; returns how many results there are."""
    keys = [[f"{name}-{number}-{i}" for i in range(BATCH)] for number in range(num_told + 1)]
    done = [await ledger.results(batch) for batch in keys]
    assert all(len(found) == BATCH for found in done[:num_told])
    assert len(done[num_told]) in (0, BATCH)
    assert all(found[key] == address_of(key) for found in done for key in found)
    ended = [each.unit.prompt async for each in ledger.outcomes("run", arm=name)]
    assert len(ended) % BATCH == 0
    assert num_told * BATCH <= len(ended) <= (num_told + 1) * BATCH
    assert sum((await ledger.outcome_counts("run")).values()) == len([None async for _ in ledger.outcomes("run")])
    return sum(map(len, done))


def test_a_writer_killed_anywhere_loses_nothing_it_was_told_is_done_and_leaves_no_half_transaction(
    tmp_path: Path,
) -> None:
    url = sqlite_url(tmp_path)
    delays = {"first": 0.0, "second": 0.13, "third": 0.4}
    asyncio.run(plan_units(url, list(delays), 6400))
    told = {name: batches_before_being_killed(url, name, delay) for name, delay in delays.items()}

    async def check() -> None:
        ledger = SqlLedger(url)
        num_results = sum([await check_batches(ledger, name, told[name]) for name in delays])
        (costs,) = await ledger.costs("run")
        assert costs.num_items == num_results
        await ledger.aclose()

    asyncio.run(check())
    with sqlite3.connect(url.removeprefix("sqlite:")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_processes_on_one_file_agree_on_every_winner_and_on_the_costs(tmp_path: Path) -> None:
    url, num_keys = sqlite_url(tmp_path), 1600
    racers = [start("racer", url, name, str(num_keys)) for name in ("forwards", "backwards")]
    told = [dict(line.split() for line in racer.communicate(timeout=120)[0].splitlines()) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert told[0] == told[1]
    assert len(told[0]) == num_keys

    async def cost_of_winners() -> dict[str, int]:
        ledger = SqlLedger(url)
        costs = {cost.stage: cost.num_items for cost in await ledger.costs("run")}
        await ledger.aclose()
        return costs

    won = {
        name: sum(digest == address_of(f"{name}{key}").digest for key, digest in told[0].items())
        for name in ("forwards", "backwards")
    }
    assert asyncio.run(cost_of_winners()) == {name: number for name, number in won.items() if number}


def test_many_may_open_a_new_ledger_at_the_same_moment(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    opened: list[SqlLedger] = []
    threads = [threading.Thread(target=lambda: opened.append(SqlLedger(url))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(opened) == 8

    async def use() -> None:
        for number, ledger in enumerate(opened):
            await ledger.open_run(f"run{number}", plan="p")
        assert await opened[0].run_state("run7") == "receiving"
        for ledger in opened:
            await ledger.aclose()

    asyncio.run(use())


async def test_a_call_that_is_cancelled_leaves_the_ledger_usable(tmp_path: Path) -> None:
    ledger = SqlLedger(sqlite_url(tmp_path))
    call = asyncio.ensure_future(ledger.finish({"k": address("1")}, run="run", costs={}))
    await asyncio.sleep(0)
    call.cancel()
    assert await ledger.finish({"l": address("2")}, run="run", costs={}) == {"l": address("2")}
    await ledger.aclose()


# --------------------------------------------------------------------------------------------- opening


def make_other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name)")


def make_text_file(path: Path) -> None:
    path.write_text("this is no database, and long enough for SQLite to see that it is none" * 20)


@pytest.mark.parametrize(
    ("make", "says"),
    [(make_other_database, "something else"), (make_text_file, "not a database"), (Path.mkdir, "unable to open")],
)
def test_a_file_that_is_no_ledger_is_refused_with_the_reason(tmp_path: Path, make: Any, says: str) -> None:
    make(tmp_path / "ledger.db")
    with pytest.raises(SetupError, match=says):
        SqlLedger(f"sqlite:{tmp_path / 'ledger.db'}")


@pytest.mark.parametrize("url", ["", "sqlite:", "/path/ledger.db", "mysql://host/db", "postgresql:name"])
def test_an_address_of_no_ledger_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(SetupError, match="sqlite:/path"):
        SqlLedger(url)
