"""A signal stops a run cleanly and says how to go on; a budget stops it resumably."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.embedded.small_runs import TEXT

SLOW = TEXT.replace("count: 40}", "count: 400}").replace(
    'engine: "scripted:null_target"', 'engine: "scripted:null_target", engine_options: {delay_s: 0.05}'
)

pytestmark = pytest.mark.timeout(180)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tracemend.cli", *arguments]


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), check=False, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_the_same_command_completes(tmp_path: Path, number: signal.Signals) -> None:
    path, out = tmp_path / "slow.yaml", tmp_path / "out"
    path.write_text(SLOW, encoding="utf-8")
    run = ["run", str(path), "--out", str(out), "--json"]
    process = subprocess.Popen(command(*run), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and event["states"]:
            break
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert f"tracemend run {path} --out {out}" in told

    assert _unfinished_attempts(out) == 0, "a graceful stop is no crash"
    assert call("verify", str(out)).returncode == 0
    again = call(*run)
    assert again.returncode == 0, again.stderr
    assert call("verify", str(out)).returncode == 0


def test_a_spent_budget_stops_the_run_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    path, out = tmp_path / "run.yaml", tmp_path / "out"
    path.write_text(SLOW + "limits: {tokens: 2000, unfinished_prompts: 20}\n", encoding="utf-8")
    stopped = call("run", str(path), "--out", str(out))
    assert stopped.returncode == 4, stopped.stderr
    assert "limits.tokens" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert call("verify", str(out)).returncode == 0

    path.write_text(SLOW + "limits: {tokens: 10000000, unfinished_prompts: 20}\n", encoding="utf-8")
    done = call("run", str(path), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert call("verify", str(out)).returncode == 0


def _unfinished_attempts(out: Path) -> int:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(out / "state" / "ledger.db")) as connection:
        ((number,),) = connection.execute("SELECT count(*) FROM attempts")
    return int(number)
