"""Log lines go to standard error and quote nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tracemend.kit.logs import log_to_stderr
from tracemend.redaction import Text


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Logging is the process's: other tests keep their own."""
    yield
    structlog.reset_defaults()


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
