"""What a training does to the process it runs in: one training per folder, and silence on the terminal.

`training` wraps itself in both. Progress goes through our callback, so bars and loss lines of the libraries would only
tear the caller's screen.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Wait until no other process trains in `folder`; a process that dies lets go. Only the first of a group locks."""
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("another process trains in %s; waiting for it", folder)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """No progress bars of transformers and datasets; as before afterwards."""
    import datasets
    from transformers.utils import logging as transformers_logging

    had_bars = transformers_logging.is_progress_bar_enabled(), datasets.are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_bars[0]:
            transformers_logging.enable_progress_bar()
        if not had_bars[1]:
            datasets.enable_progress_bars()
