"""What `tracemend run` leaves to other programs: events alone on standard output, runs that go on."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.unit.embedded.small_runs import TEXT

from tracemend.cli.__main__ import main
from tracemend.cli.console import JsonLines
from tracemend.kit.pump import PumpStats


class _Refusing(BaseHTTPRequestHandler):
    """An endpoint that knows no key."""

    def do_POST(self) -> None:  # the name that http.server looks for
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_refused_key_stops_the_run_before_anything_is_given_up(tmp_path: Path, refusing: str) -> None:
    path, out = tmp_path / "run.yaml", tmp_path / "out"
    path.write_text(TEXT.replace("scripted:null_target", f"openai:m@{refusing}"), encoding="utf-8")
    arguments = ["run", str(path), "--out", str(out), "--limit", "3", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "tracemend.cli", *arguments], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "refused the API key" in done.stderr
    assert "Traceback" not in done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert not any(event.get("states") for event in events)


def test_a_run_ends_with_its_figures_and_where_the_report_lies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "run.yaml", tmp_path / "out"
    path.write_text(TEXT, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["run", str(path), "--out", str(out)])
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert any("harm reasoning" in line for line in lines)
    assert any(line.startswith("base ") for line in lines)
    assert lines[-1] == f"Report:   {out / 'report.html'}"


def test_a_loss_that_is_no_number_is_still_json(capsys: pytest.CaptureFixture[str]) -> None:
    JsonLines().training(1, 2, float("nan"))
    assert json.loads(capsys.readouterr().out)["loss"] is None


def test_json_progress_says_rate_cost_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    lines = JsonLines()
    lines.phase("sample", total=4)
    lines.advance(1, pumps=[PumpStats(stage="generator", num_done=5, num_new_tokens=70, money=0.5)], states={"kept": 1})
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["done"], told["total"], told["states"], told["money"]) == (1, 4, {"kept": 1}, 0.5)
    assert told["new_tokens"] == 70
    assert told["stages"]["generator"]["done"] == 5
    assert told["remaining_s"] >= told["elapsed_s"] >= 0


def test_a_run_that_finds_its_folder_taken_changes_nothing_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "run.yaml", tmp_path / "out"
    path.write_text(TEXT, encoding="utf-8")
    (out / "state").mkdir(parents=True)
    (out / "run.yaml").write_text("of the first\n", encoding="utf-8")
    with (out / "state" / "lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        with pytest.raises(SystemExit) as ended:
            main(["run", str(path), "--out", str(out)])
    assert ended.value.code == 2
    assert "another tracemend process is working on this run" in capsys.readouterr().err
    assert (out / "run.yaml").read_text(encoding="utf-8") == "of the first\n"
