"""A run that is killed at any moments and started again by the same command loses nothing and doubles nothing.

With scripted models, which write the same in any company, it ends as the run that nobody touched. With a real model
that forks, whose batches differ after a kill, every planned unit ends once and every fork keeps its ids.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tracemend.embedded.intake import prompts_of, units_of
from tracemend.embedded.looking import open_run
from tracemend.records import Finish, Outcome, OutcomeState

_RUN_FILE = Path(__file__).parents[2] / "examples" / "null-2000.yaml"
_NUM_KILLS = 50
_EARLY_EVERY = 6
"""Every sixth kill comes at any moment since the start: while modules load, prompts are admitted, work is found."""
_WORK_PHASE = "sample, judge, correct"
_DEADLINE_S = 420.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


_FORKS_FILE = """\
name: forks
prompts:
  - {source: proving, subset: harmful_train, limit: 24}
ingestion: {filters: {near_duplicates: false}}
target:
  model: proving:base
  samples: 3
  sampling: {temperature: 0.8, top_p: 1.0, max_new_tokens: 160}
judge:
  harm: {name: proving_exact}
  refusal: {name: proving_exact}
  correctness: {name: proving_exact}
  detector: {name: proving_cue}
arms:
  ipo:
    correct: {strategy: intervene, options: {triggers: proving, rounds: 3}}
  control:
    correct: {strategy: intervene, options: {triggers: proving_neutral, rounds: 3}}
resources: {concurrency: 16}
"""
_NUM_FORK_KILLS = 10
_FORK_RESULTS = 480
"""About as many results as the run of forks has: 72 samples and 170 forks, each written and judged."""


def _command(out: Path, run_file: Path = _RUN_FILE) -> list[str]:
    return [sys.executable, "-m", "tracemend.cli", "run", str(run_file), "--out", str(out), "--json"]


def _start(out: Path, run_file: Path = _RUN_FILE) -> subprocess.Popen[str]:
    with (out.parent / f"{out.name}.log").open("a") as log:
        return subprocess.Popen(_command(out, run_file), stdout=subprocess.PIPE, stderr=log, text=True)


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


# -------------------------------------------------------------------------------------------- forks


def _num_forks(out: Path) -> int:
    rows = _rows(out, "SELECT count(*) FROM work WHERE key LIKE 'fork_%'")
    return int(str(rows[0][0])) if rows else 0


async def _ends(out: Path) -> tuple[list[tuple[str, str, int, str]], list[Outcome]]:
    """The planned units and the outcomes of the run in `out`."""
    async with open_run(out) as opened:
        workspace, run = opened.workspace, opened.run
        planned = [u async for prompt in prompts_of(workspace, run) for u in units_of(opened.plan, prompt)]
        addresses = [item.address async for item in workspace.ledger.outcomes(run)]
        outcomes = [record for address in addresses for _, record in await workspace.results.read(address)]
    return [(unit.arm, unit.prompt, unit.sample, unit.variant) for unit in planned], outcomes


def _check_fork(outcome: Outcome) -> None:
    """A correction shares the ids before the first cut with its sample, and was accepted by detector and verifier."""
    assert outcome.original is not None
    assert outcome.final is not None
    old, new = outcome.original, outcome.final
    assert old.cue is not None
    assert new.cue is not None
    h = old.cue.token
    assert 0 < h < len(old.trajectory.token_ids)
    assert new.trajectory.token_ids[:h] == old.trajectory.token_ids[:h]
    assert new.cue.step == 0
    assert new.trajectory.finish is Finish.STOP
    assert new.trajectory.intervention is not None
    assert new.trajectory.intervention.variant == outcome.unit.variant


@pytest.mark.timeout(1800)  # each of its processes loads torch
def test_forks_killed_at_ten_moments_end_once_for_every_prompt_sample_and_trigger(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trains the proving ground's base model unless TRACEMEND_CACHE holds it."""
    cache = os.environ.get("TRACEMEND_CACHE") or str(tmp_path_factory.mktemp("cache"))
    monkeypatch.setenv("TRACEMEND_CACHE", cache)
    out, run_file = tmp_path / "killed", tmp_path / "forks.yaml"
    run_file.write_text(_FORKS_FILE, encoding="utf-8")
    moments, num_kills, num_with_forks = random.Random(20), 0, 0
    for number in range(_NUM_FORK_KILLS):
        before, forks_before = _num_results(out), _num_forks(out)
        process = _start(out, run_file)
        if number % _EARLY_EVERY == _EARLY_EVERY - 1:
            time.sleep(moments.uniform(0.0, 5.0))
        elif _await_work(process):
            _await_results(process, out, before + int(moments.uniform(0.0, 1.6 * _FORK_RESULTS / _NUM_FORK_KILLS)))
            time.sleep(moments.uniform(0.0, 0.1))
        num_kills += _kill(process)
        num_with_forks += _num_forks(out) > forks_before
    final = subprocess.run(_command(out, run_file), check=False, capture_output=True, text=True, timeout=400)
    assert final.returncode == 0, final.stderr

    assert num_kills >= _NUM_FORK_KILLS - 2, "the run ended before it could be killed"
    assert num_with_forks >= 3, "kills must come while forks are written"
    planned, outcomes = asyncio.run(_ends(out))
    ended = Counter((o.unit.arm, o.unit.prompt, o.unit.sample, o.unit.variant) for o in outcomes)
    assert len(planned) == len(set(planned)) == 2 * 3 * 24
    assert ended == Counter(planned), "each ends once, and nothing else does"
    corrected = [outcome for outcome in outcomes if outcome.state is OutcomeState.CORRECTED]
    assert len(corrected) > 20
    for outcome in corrected:
        _check_fork(outcome)
    assert not [outcome for outcome in outcomes if outcome.state is OutcomeState.DEAD], "a kill is nobody's fault"
    verify = [sys.executable, "-m", "tracemend.cli", "verify", str(out), "--json"]
    verified = subprocess.run(verify, check=False, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout
