"""Values that are read from files and read again when the files change: certificates, tokens, keys.

Secrets are rotated under a running service. `Reloaded.get` looks at the files at most once a second; what cannot be
read half-way through a rotation leaves the last good value in place, and says so once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from tracemend.kit.errors import SetupError

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Reloaded(Generic[T]):
    """What `read` makes of `paths`. Raises what `read` raises the first time only. May be used from any thread."""

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], T],
        *,
        every_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = tuple(paths)
        self._read = read
        self._every_s = every_s
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = self._fingerprint()
        self._looked = clock()
        self._value = read()
        self.version = 0
        """Counts the values that there have been."""

    def get(self) -> T:
        """The newest good value."""
        with self._lock:
            if self._clock() - self._looked >= self._every_s:
                self._looked = self._clock()
                self._look()
            return self._value

    def _look(self) -> None:
        seen = self._fingerprint()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._value = self._read()
        except (OSError, ValueError, SetupError) as error:
            log.warning("rotation_not_taken", files=[str(path) for path in self._paths], error=type(error).__name__)
        else:
            self.version += 1

    def _fingerprint(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stat(path) for path in self._paths)


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_secret(path: Path, what: str) -> str:
    """The text of a secret's file without the newline at its end; `SetupError` names the file, never what it holds."""
    try:
        content = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{what}: cannot read {path} ({type(error).__name__})") from None
    if not content:
        raise SetupError(f"{what}: {path} is empty")
    return content
