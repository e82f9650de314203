"""A service process lives and ends as its exit codes say: real processes, real signals, real scrapes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.unit.runtime.toy_program import SECRET

TOY = Path(__file__).with_name("toy_program.py")
PATIENCE_S = 30.0


class Toy:
    """A running toy, its standard error in a file."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def stderr(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{")]

    def until(self, event: str) -> dict[str, object]:
        """Wait for a log line."""
        return until(lambda: next((one for one in self.events() if one["event"] == event), None))

    def get(self, path: str) -> tuple[int, str]:
        port = self.until("starting")["http_port"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def said(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.read().split()


def until(found):  # type: ignore[no-untyped-def]  # whatever `found` gives once it gives something
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        if (value := found()) is not None and value is not False:
            return value
        time.sleep(0.02)
    raise AssertionError("waited in vain")


@contextmanager
def toy(kind: str, folder: Path, *, more: Mapping[str, str] = MappingProxyType({}), **settings: str) -> Iterator[Toy]:
    """Run a toy with `settings`, and `more` variables as they are."""
    fixed = {"BUS": "memory:", "STORE": "file:x", "LEDGER": "sqlite:x", "HTTP_HOST": "127.0.0.1", "HTTP_PORT": "0"}
    given = {f"TRACEMEND_{name}": value for name, value in (fixed | settings).items()}
    environ = {**os.environ, **given, **more, "TOY_AWAY": str(folder / "away")}
    log = folder / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(TOY), kind], env=environ, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    try:
        yield Toy(process, log)
    finally:
        process.kill()
        process.wait()


def test_sigterm_drains_in_order_and_exits_with_0(tmp_path: Path) -> None:
    with toy("drains", tmp_path) as running:
        running.until("ready")
        assert running.get("/readyz")[0] == 200
        assert running.get("/healthz")[0] == 200
        assert running.get("/nothing")[0] == 404
        assert running.stop() == 0
        said = running.said()
    assert [word for word in said if word.isupper()] == ["REFUSE", "INTAKE", "FINISH", "FLUSH"]
    assert " ".join(said).index("FINISH") < " ".join(said).index("work ended") < " ".join(said).index("FLUSH")
    assert said[-1] == "closed"


def test_readiness_follows_a_dependency_and_liveness_does_not(tmp_path: Path) -> None:
    away = tmp_path / "away"
    with toy("drains", tmp_path, DEPENDENCIES_CHECK_EVERY_S="0.05") as running:
        running.until("ready")
        away.touch()
        until(lambda: running.get("/readyz")[0] == 503)
        assert running.get("/healthz")[0] == 200
        assert "ConnectionError" in running.get("/readyz")[1]
        assert SECRET not in running.get("/readyz")[1]
        away.unlink()
        until(lambda: running.get("/readyz")[0] == 200)
        assert running.stop() == 0


def test_a_service_is_not_ready_before_its_dependencies_answer(tmp_path: Path) -> None:
    (tmp_path / "away").touch()
    with toy("drains", tmp_path, DEPENDENCIES_CHECK_EVERY_S="0.05") as running:
        running.until("dependency is away")
        assert running.get("/readyz")[0] == 503
        (tmp_path / "away").unlink()
        until(lambda: running.get("/readyz")[0] == 200)


def test_what_never_answers_ends_the_process_with_3(tmp_path: Path) -> None:
    (tmp_path / "away").touch()
    with toy("drains", tmp_path, DEPENDENCIES_START_WITHIN_S="0.3") as running:
        assert running.process.wait(PATIENCE_S) == 3
        assert running.until("lost a dependency")["dependency"] == "bus"


def test_what_is_lost_for_too_long_ends_the_process_with_3(tmp_path: Path) -> None:
    lost = {"DEPENDENCIES_CHECK_EVERY_S": "0.05", "DEPENDENCIES_LOST_AFTER_S": "0.3"}
    with toy("drains", tmp_path, **lost) as running:
        running.until("ready")
        (tmp_path / "away").touch()
        assert running.process.wait(PATIENCE_S) == 3
        assert "FLUSH" in running.said()


def test_work_that_outlasts_the_budget_is_given_back_with_4(tmp_path: Path) -> None:
    with toy("drags", tmp_path, STOP_FINISH_WITHIN_S="0.3") as running:
        running.until("ready")
        assert running.stop() == 4


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with toy("drags", tmp_path) as running:
        running.until("ready")
        running.process.send_signal(signal.SIGTERM)
        running.until("draining")
        assert running.stop() == 128 + signal.SIGTERM


def test_a_signal_ends_a_start_that_is_under_way(tmp_path: Path) -> None:
    with toy("opens", tmp_path) as running:
        assert running.process.stdout is not None
        assert running.process.stdout.readline() == "opening\n"
        assert running.stop() == 0


def test_a_bug_ends_with_1_and_is_told_by_place_alone(tmp_path: Path) -> None:
    with toy("breaks", tmp_path) as running:
        assert running.process.wait(PATIENCE_S) == 1
        assert running.until("program failed")["error"] == "ValueError"
        assert SECRET not in running.stderr


def test_what_must_be_set_up_is_told_once_and_plainly_with_2(tmp_path: Path) -> None:
    with toy("misses", tmp_path) as running:
        assert running.process.wait(PATIENCE_S) == 2
        assert running.stderr.count("tracemend: the key is refused: set another one") == 1


def test_a_blocked_loop_is_counted_told_by_place_and_fails_liveness(tmp_path: Path) -> None:
    blocked = {"WATCHDOG_STALLED_AFTER_S": "0.3", "WATCHDOG_DEAD_AFTER_S": "0.6"}
    with toy("hangs", tmp_path, **blocked) as running:
        told = running.until("event loop is blocked")
        assert "toy_program.py" in str(told["at"])
        assert "block" in str(told["at"])
        until(lambda: running.get("/healthz")[0] == 503)
        assert "tracemend_loop_stalls_total 1.0" in running.get("/metrics")[1]


def test_a_loop_that_hangs_while_stopping_is_ended_with_4(tmp_path: Path) -> None:
    soon = {"STOP_FINISH_WITHIN_S": "0.1", "STOP_CLOSE_WITHIN_S": "0.1", "WATCHDOG_STALLED_AFTER_S": "0.3"}
    with toy("hangs", tmp_path, **soon) as running:
        running.until("event loop is blocked")
        assert running.stop() == 4


def test_metrics_logs_and_traces_hold_no_text(tmp_path: Path) -> None:
    with toy("measures", tmp_path) as running:
        running.until("ready")
        scraped = running.get("/metrics")[1]
        assert running.stop() == 0
        assert 'tracemend_items_total{outcome="done",stage="judge"} 1.0' in scraped
        assert 'tracemend_items_total{outcome="done",stage="other"} 1.0' in scraped
        assert SECRET not in scraped + running.stderr
        looked = running.until("looked")
        assert looked["text"] == looked["nested"]["texts"][0]  # type: ignore[index]
        assert len(str(looked["trace_id"])) == 32


def test_a_port_that_is_taken_is_told_with_2(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with toy("drains", tmp_path) as first:
        port = str(first.until("starting")["http_port"])
        with toy("drains", tmp_path / "second", HTTP_PORT=port) as second:
            assert second.process.wait(PATIENCE_S) == 2
            assert "TRACEMEND_HTTP_PORT" in second.stderr


def test_spans_reach_a_collector_when_the_process_ends(tmp_path: Path) -> None:
    """Over OTLP, to a real gRPC server; what was buffered is sent on the way out."""
    with collector() as (address, received):
        exporting = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}", "OTEL_EXPORTER_OTLP_INSECURE": "true"}
        with toy("measures", tmp_path, more=exporting, TRACES_SHARE="1") as running:
            running.until("ready")
            assert running.stop() == 0
    (group,) = received[0].resource_spans
    resource = {one.key: one.value.string_value for one in group.resource.attributes}
    (span,) = group.scope_spans[0].spans
    assert resource["service.name"] == "judge"
    assert resource["service.instance.id"].startswith("judge-")
    assert span.name == "process judge"
    assert SECRET not in str(received)


def test_a_collector_that_is_away_holds_nobody_up(tmp_path: Path) -> None:
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    with toy("measures", tmp_path, more=away, TRACES_SHARE="1") as running:
        running.until("ready")
        started = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - started < 15


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A trace collector on loopback: its address, and the requests that it got."""
    import grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    received: list[Any] = []

    class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the method's name in OTLP
            received.append(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", received
    finally:
        server.stop(None)
