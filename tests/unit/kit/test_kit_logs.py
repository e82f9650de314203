"""Log lines go to standard error and quote nobody."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from tracemend.kit.logs import Seldom, about, log_libraries, log_loop_errors, log_to_stderr
from tracemend.redaction import Text


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Logging is the process's: other tests keep their own."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = before


def _break(text: Text) -> None:
    words = text.reveal()
    int(words)


def test_a_bug_is_told_by_type_and_place_on_standard_error_alone(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    log = structlog.get_logger("test")
    try:
        _break(Text("the secret words"))
    except ValueError:
        log.exception("stage failed", stage="judge", prompt=Text("the secret words"))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "secret" not in printed.err
    assert "ValueError" in printed.err
    assert "_break" in printed.err
    assert "stage=judge" in printed.err


def test_a_line_without_an_error_has_no_place(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    structlog.get_logger("test").warning("will retry", reason="http_503")
    printed = capsys.readouterr()
    assert "http_503" in printed.err
    assert "at=" not in printed.err


def test_json_lines_carry_what_their_task_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(as_json=True)
    with about(run="run_1", stage="judge", key="judge_1", attempt=2, trace_id="a" * 32):
        structlog.get_logger("test").warning("will retry", reason="http_503")
    structlog.get_logger("test").warning("outside")
    inside, outside = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert inside.items() >= {"run": "run_1", "stage": "judge", "key": "judge_1", "attempt": 2}.items()
    assert (inside["trace_id"], inside["level"], inside["event"]) == ("a" * 32, "warning", "will retry")
    assert "run" not in outside


@pytest.mark.parametrize("as_json", [True, False])
def test_no_value_brings_text_or_a_line_of_its_own(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    log_to_stderr(as_json=as_json)
    nested = {"texts": [Text("the secret words")], "error": ValueError("the secret words"), "other": object()}
    structlog.get_logger("test").warning("told", nested=nested, reason="a\nforged line\x1b[2J", long="x" * 10_000)
    printed = capsys.readouterr().err
    assert "secret" not in printed
    assert "ValueError" in printed
    assert "\x1b" not in printed
    assert len(printed.splitlines()) == 1
    assert len(printed) < 5000


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(level="warning")
    structlog.get_logger("test").info("too small")
    assert capsys.readouterr().err == ""


def test_libraries_are_told_by_place_unless_they_speak_of_servers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(as_json=True)
    log_libraries()
    logging.getLogger("kafka.client").warning("node %s is away", 1)
    logging.getLogger("some.library").warning("cannot read %s", "the secret words")
    logging.getLogger("some.library").info("too small")
    kafka, other = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert kafka["event"] == "node 1 is away"
    assert other["logger"] == "some.library"
    assert "test_kit_logs.py" in other["place"]
    assert "secret" not in str(other)


async def test_what_nobody_awaited_is_told_by_type_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(as_json=True)
    loop = asyncio.get_running_loop()
    log_loop_errors(loop)
    loop.call_soon(_break, Text("the secret words"))
    await asyncio.sleep(0.01)
    (told,) = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert told["error"] == "ValueError"
    assert "_break" in told["at"]
    assert "secret" not in str(told)


def test_what_comes_often_is_told_seldom_and_with_its_number() -> None:
    now_s = [0.0]
    seldom = Seldom(every_s=30.0, clock=lambda: now_s[0])
    assert [seldom.due("busy") for _ in range(4)] == [1, 0, 0, 0]
    assert seldom.due("gone") == 1, "each cause for itself"
    now_s[0] = 30.0
    assert [seldom.due("busy") for _ in range(2)] == [4, 0]
