"""`tracemend serve` checks settings before anything runs, and says what is wrong with the documented exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tracemend.cli.__main__ import main
from tracemend.runtime.program_settings import SERVICES


@pytest.fixture(autouse=True)
def _needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BUS": "memory:",
        "STORE": "file:x",
        "LEDGER": "sqlite:x",
        "TARGET": "r1",
    }.items():
        monkeypatch.setenv(f"TRACEMEND_{name}", value)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("service", SERVICES)
def test_settings_can_be_checked_alone(
    service: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if service == "operator":
        monkeypatch.setenv("TRACEMEND_NAMESPACE", "n")
    assert run("serve", service, "--check") == 0
    assert f"the settings of {service} can be used" in capsys.readouterr().out


def test_mistakes_are_told_with_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRACEMEND_CONCURRENCY", "many")
    monkeypatch.delenv("TRACEMEND_BUS")
    assert run("serve", "judge", "--check") == 2
    told = capsys.readouterr().err
    assert "2 mistakes" in told
    assert "many" not in told


def test_an_unknown_service_is_told_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", "jugde") == 2
    assert "did you mean 'judge'?" in capsys.readouterr().err


def test_the_help_lists_the_services(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", "--help") == 0
    told = capsys.readouterr().out
    assert [service for service in SERVICES if service not in told] == []


def test_a_service_serves_its_probes_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """The judge over what needs no server: ready, scraped, drained."""
    given = {"LEDGER": f"sqlite:{tmp_path / 'ledger.db'}", "STORE": f"file:{tmp_path}", "FOLDER": str(tmp_path)}
    given |= {"BUS": "memory:", "HTTP_HOST": "127.0.0.1", "HTTP_PORT": "0", "RPC_LISTEN": "127.0.0.1:0"}
    environ = os.environ | {f"TRACEMEND_{name}": value for name, value in given.items()}
    command = [sys.executable, "-m", "tracemend.cli", "serve", "judge"]
    log = tmp_path / "log"
    with log.open("w") as stderr, subprocess.Popen(command, env=environ, stderr=stderr) as process:
        try:
            events = wait_for_ready(log)
            with urllib.request.urlopen(f"http://127.0.0.1:{events['starting']['http_port']}/readyz") as answer:
                assert answer.status == 200
            with urllib.request.urlopen(f"http://127.0.0.1:{events['starting']['http_port']}/metrics") as answer:
                assert b'tracemend_build_info{service="judge"' in answer.read()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()
        finally:
            process.kill()


def wait_for_ready(log: Path) -> dict[str, dict[str, object]]:
    """The log lines so far by event, once the service is ready."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line[-1] == "}"]
        events = {line["event"]: line for line in lines}
        if "ready" in events:
            return events
        time.sleep(0.05)
    raise AssertionError(log.read_text())
