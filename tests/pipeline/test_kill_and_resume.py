"""A run that is killed fifty times and started again by the same command ends as the run that nobody touched."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

_RUN_FILE = Path(__file__).parents[2] / "examples" / "null-2000.yaml"
_NUM_KILLS = 50
_EARLY_EVERY = 6
"""Every sixth kill comes at any moment since the start: while modules load, prompts are admitted, work is found."""
_WORK_PHASE = "sample, judge, correct"
_DEADLINE_S = 420.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _command(out: Path) -> list[str]:
    return [sys.executable, "-m", "tracemend.cli", "run", str(_RUN_FILE), "--out", str(out), "--json"]


def _start(out: Path) -> subprocess.Popen[str]:
    with (out.parent / f"{out.name}.log").open("a") as log:
        return subprocess.Popen(_command(out), stdout=subprocess.PIPE, stderr=log, text=True)


def _await_work(process: subprocess.Popen[str]) -> bool:
    """Whether the process came to its work, and did not end before."""
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event.get("phase") == _WORK_PHASE:
            return True
    return False


def _uninterrupted(out: Path) -> float:
    """Run to the end; seconds from the command to its first unit of work."""
    began = time.monotonic()
    process = _start(out)
    assert _await_work(process)
    start_s = time.monotonic() - began
    process.communicate()
    assert process.returncode == 0
    return start_s


def _await_results(process: subprocess.Popen[str], out: Path, number: int) -> None:
    """Until the run has that many results, or its process has ended."""
    while process.poll() is None and _num_results(out) < number:
        time.sleep(0.01)


def _kill(process: subprocess.Popen[str]) -> bool:
    """SIGKILL; whether there was still something to kill."""
    was_alive = process.poll() is None
    process.kill()
    process.communicate()
    return was_alive and process.returncode == -signal.SIGKILL


def _rows(out: Path, query: str) -> list[tuple[object, ...]]:
    path = out / "state" / "ledger.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        return list(connection.execute(query)) if "outcomes" in tables else []


def _num_results(out: Path) -> int:
    rows = _rows(out, "SELECT count(*) FROM work")
    return int(str(rows[0][0])) if rows else 0


def _outcomes(out: Path) -> list[tuple[object, ...]]:
    columns = "run, arm, row, sample, variant, epoch, state, reason"
    return sorted(_rows(out, f"SELECT {columns} FROM outcomes"), key=repr)


def _dataset_digests(out: Path) -> dict[str, str]:
    manifests = (out / "datasets").glob("*/manifest.json")
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8"))["digest"] for path in manifests}


def test_a_run_killed_at_fifty_moments_loses_and_doubles_nothing(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    start_s = _uninterrupted(whole)
    # Half of the work in all rounds together, so that the run cannot end before the kills do.
    most_results = _num_results(whole) / _NUM_KILLS
    moments = random.Random(50)
    num_kills = num_at_work = num_with_progress = 0
    began = time.monotonic()
    for number in range(_NUM_KILLS):
        before = _num_results(killed)
        process = _start(killed)
        if number % _EARLY_EVERY == 0:
            time.sleep(moments.uniform(0.0, 1.1 * start_s))
        elif _await_work(process):
            _await_results(process, killed, before + int(moments.uniform(0.0, most_results)))
            time.sleep(moments.uniform(0.0, 0.05))  # anywhere between two batches
            num_at_work += 1
        num_kills += _kill(process)
        num_with_progress += _num_results(killed) > before
        assert time.monotonic() - began < _DEADLINE_S, f"{number + 1} kills took too long"
    final = subprocess.run(_command(killed), check=False, capture_output=True, text=True, timeout=300)
    assert final.returncode == 0, final.stderr

    assert num_kills >= _NUM_KILLS - 2, "the run ended before it could be killed"
    assert num_at_work >= 0.75 * _NUM_KILLS, "most kills must hit work"
    assert num_with_progress >= 0.5 * _NUM_KILLS, "most rounds must come further"
    verify = [sys.executable, "-m", "tracemend.cli", "verify", str(killed), "--json"]
    verified = subprocess.run(verify, check=False, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout
    assert len(_dataset_digests(whole)) == 2
    assert _dataset_digests(killed) == _dataset_digests(whole)
    assert _outcomes(killed) == _outcomes(whole) != []
