"""Two processes write the same server tables at the same moment, over every database: each thing has one winner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.ledgers import URLS

from tracemend.adapters.sql_server import SqlServerTables

RACER = Path(__file__).with_name("table_racers.py")
NUM = 25


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.servers) if name != "sqlite" else name for name in URLS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return URLS[request.param](tmp_path)


def told(url: str) -> dict[str, list[tuple[str, str]]]:
    """What each of two racing processes was told."""
    racers = {
        name: subprocess.Popen([sys.executable, str(RACER), url, name, str(NUM)], stdout=subprocess.PIPE, text=True)
        for name in ("ann", "bob")
    }
    lines = {name: racer.communicate(timeout=120)[0].splitlines() for name, racer in racers.items()}
    assert [racer.returncode for racer in racers.values()] == [0, 0]
    return {name: [(line.split()[0], line.split()[1]) for line in its] for name, its in lines.items()}


def test_racing_processes_agree_on_every_winner(url: str) -> None:
    said = told(url)
    for kind in ("audit", "attempt"):
        numbers = sorted(int(value) for its in said.values() for what, value in its if what == kind)
        assert numbers == list(range(1, 2 * NUM + 1)), f"each {kind} has a number of its own"
    runs = sorted(int(value) for its in said.values() for what, value in its if what == "run")
    assert runs == list(range(NUM)), "each run was created by one of them"
    answers = [{what: value for what, value in its if what.startswith("answer")} for its in said.values()]
    assert answers[0] == answers[1]
    assert len(answers[0]) == NUM


async def test_the_audit_log_of_racing_processes_is_one_chain(url: str) -> None:
    told(url)
    tables = SqlServerTables(url)
    assert (await tables.audit.head()).number == 2 * NUM
    assert await tables.audit.verify() is None
    await tables.aclose()
