"""Log lines: on standard error, one line each, without a word that a prompt or a model wrote.

Programs call `log_to_stderr` once before they run stages: plain lines for people, JSON for collectors. Standard output
stays theirs (`--json` prints events there). `about` binds what the lines of a task belong to: run, stage, work key,
attempt, trace id. A bug is told by its type and its place in the code: messages of foreign exceptions quote what they
choke on, and local variables hold revealed text, so neither is logged. Lines of libraries come here as well; those of
libraries that speak of servers and topics alone keep their words, the others are told by their place.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from tracemend.redaction import Text

_NUM_FRAMES = 6
_MAX_CHARS = 2000
_PLAIN_SPOKEN = ("kafka", "alembic", "opentelemetry", "tracemend")
"""Libraries whose messages name servers, topics, revisions and settings, and no payload."""


def log_to_stderr(*, as_json: bool = False, level: str = "info") -> None:
    """Have structlog, and what libraries log, write lines to what standard error is when a line is written."""
    render: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if as_json else "%Y-%m-%d %H:%M:%S", utc=as_json),
            by_place,
            without_text,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def log_libraries() -> None:
    """Have what libraries log from warnings upwards come the same way; for programs that own their process."""
    root = logging.getLogger()
    root.handlers[:] = [_Foreign()]
    root.setLevel(logging.WARNING)
    # It warns of each of its own tasks that took 0.1 s, as all do now and then on a busy machine.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)


@contextmanager
def about(**codes: str | int) -> Iterator[None]:
    """Add `codes` (run, stage, key, attempt, trace_id) to every line that is logged inside, tasks started there too."""
    with structlog.contextvars.bound_contextvars(**codes):
        yield


class Seldom:
    """What comes by the thousand is told once in `every_s` for each cause, with its number."""

    def __init__(self, *, every_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._told_s: dict[str, float] = {}
        self._num_untold: Counter[str] = Counter()

    def due(self, cause: str) -> int:
        """Note `cause` once more: how often it came since it was last told, if it is to be told now; else 0."""
        self._num_untold[cause] += 1
        if self._clock() - self._told_s.get(cause, -math.inf) < self._every_s:
            return 0
        self._told_s[cause] = self._clock()
        return self._num_untold.pop(cause)


def log_loop_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Have `loop` tell what nobody awaited by type and place; asyncio's own words quote results and messages."""

    def tell(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        structlog.get_logger(__name__).error("unawaited error", exc_info=error)

    loop.set_exception_handler(tell)


def by_place(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """`exc_info` replaced by `error` (its type) and `at` (its innermost frames, `file:line function`)."""
    given = event.pop("exc_info", None)
    if isinstance(given, tuple):
        given = given[1]
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if error is not None:
        event["error"] = type(error).__name__
        event["at"] = place_of(traceback.extract_tb(error.__traceback__))
    return event


def place_of(frames: Iterable[traceback.FrameSummary]) -> str:
    """The innermost `frames` as `file:line function`, without source lines or variables."""
    innermost = list(frames)[-_NUM_FRAMES:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in innermost)


def without_text(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Values as codes and numbers: model text as its digest wherever it is nested, errors as their type, one line each,
    and nothing longer than a line should be."""
    return {key: _harmless(value) for key, value in event.items()}


def _harmless(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case Text():
            return value.label()
        case str():
            return _one_line(value)
        case BaseException():
            return type(value).__name__
        case dict():
            return {str(_harmless(key)): _harmless(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_harmless(item) for item in value]
    return _one_line(str(value)) if isinstance(value, Path | Enum) else type(value).__name__


def _one_line(text: str) -> str:
    """`text` without line breaks and control characters, which would let a value pose as a line of its own."""
    if len(text) > _MAX_CHARS:
        text = f"{text[:_MAX_CHARS]}… ({len(text)} chars)"
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)


class _Foreign(logging.Handler):
    """Lines of libraries as ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        told: dict[str, Any] = {"logger": record.name}
        if record.name.split(".", 1)[0] in _PLAIN_SPOKEN:
            event = record.getMessage()
        else:
            event = "a library logged"
            told["place"] = f"{record.filename}:{record.lineno} {record.funcName}"
        log.log(record.levelno, event, exc_info=record.exc_info, **told)
