"""Log lines: on standard error, one line each, without a word that a prompt or a model wrote.

Programs call `log_to_stderr` once before they run stages. Standard output stays theirs (`--json` prints events there).
A bug is told by its type and its place in the code: messages of foreign exceptions quote what they choke on, and local
variables hold revealed text, so neither is logged.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict

_NUM_FRAMES = 6


def log_to_stderr() -> None:
    """Have structlog write plain lines to what standard error is when a line is written."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            by_place,
            structlog.dev.ConsoleRenderer(colors=False),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def by_place(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """`exc_info` replaced by `error` (its type) and `at` (its innermost frames, `file:line function`)."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if error is not None:
        frames = traceback.extract_tb(error.__traceback__)[-_NUM_FRAMES:]
        event["error"] = type(error).__name__
        event["at"] = " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return event
