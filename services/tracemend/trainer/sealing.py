"""Sealing checkpoints while the training goes on: digests and flushes of large files take longer than a step.

`training` holds one for each training; `callbacks` hands it the checkpoints. One is sealed at a time, older ones are
removed only after it, and leaving the context waits for the one in flight.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from tracemend.trainer.checkpoints import prune, seal


class Sealer:
    """Seals in a thread of its own; what goes wrong there is raised by the next call or on leaving."""

    def __init__(self, *, fingerprint: str, keep: int, started_s: float | None = None) -> None:
        """`started_s` is when the training began by the monotonic clock, earlier attempts included."""
        self._fingerprint = fingerprint
        self._keep = keep
        self._started_s = time.monotonic() if started_s is None else started_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="seal-checkpoints")
        self._in_flight: Future[None] | None = None

    def __enter__(self) -> Sealer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._thread.shutdown(wait=True)
        if error is None:
            self.finish()

    def take(self, checkpoint: Path) -> None:
        """Seal `checkpoint`, which nobody writes to any more, once the one before is sealed."""
        self.finish()
        self._in_flight = self._thread.submit(self._seal, checkpoint, time.monotonic() - self._started_s)

    def finish(self) -> None:
        """Wait for the one in flight."""
        if self._in_flight is not None:
            self._in_flight.result()
            self._in_flight = None

    def _seal(self, checkpoint: Path, seconds: float) -> None:
        seal(checkpoint, fingerprint=self._fingerprint, seconds=seconds)
        prune(checkpoint.parent, newest=checkpoint, keep=self._keep)
