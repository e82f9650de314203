"""Where CPU time goes, by part of the system: a sampling profiler small enough to leave the figures as they are.

Every two milliseconds of CPU time that the process spends, whichever thread spends it, the stack of the main thread is
looked at. The sample belongs to the innermost part of ours on it, library code to whoever called it, or, where the main
thread itself has hardly worked since the last sample, to the threads of the ledger and the store. (A tracing profiler
counts waiting for the interpreter lock as work and makes small functions look dear.)
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_EVERY_S = 0.002
_PARTS = {
    "/tracemend/wire.py": "records to bytes and back",
    "/tracemend/kit/ids.py": "work keys and ids",
    "/tracemend/kit/results.py": "packs: compress, digest, read",
    "/tracemend/kit/pump.py": "pump",
    "/tracemend/adapters/memory_bus.py": "bus",
    "/tracemend/adapters/sql_": "ledger, in the event loop",
    "/tracemend/adapters/folder_store.py": "store, in the event loop",
    "/tracemend/adapters/script": "null engine",
    "/tracemend/generator/": "generator",
    "/tracemend/judge/": "judge",
    "/tracemend/corrector/": "corrector",
    "/tracemend/trainer/recorder.py": "recorder",
    "/tracemend/embedded/": "flow",
}
_THREADS, _LOOP, _REST = "threads of ledger and store", "event loop", "other"


class Shares:
    """Samples by part."""

    def __init__(self) -> None:
        self.num_samples: Counter[str] = Counter()
        self._main_s = time.thread_time()
        self._all_s = time.process_time()

    def add(self, frame: FrameType | None) -> None:
        """Count the main thread's stack, which ends in `frame`."""
        main_s, all_s = time.thread_time(), time.process_time()
        is_ours = 2 * (main_s - self._main_s) >= all_s - self._all_s
        self._main_s, self._all_s = main_s, all_s
        self.num_samples[_part(frame) if is_ours else _THREADS] += 1

    def of_total(self) -> dict[str, float]:
        """Part to its share, the largest first."""
        total = self.num_samples.total()
        return {part: number / total for part, number in self.num_samples.most_common()}


def _part(frame: FrameType | None) -> str:
    part = _REST
    while frame is not None:
        path = frame.f_code.co_filename
        found = next((name for marker, name in _PARTS.items() if marker in path), None)
        if found is not None:
            return found
        if path.endswith("asyncio/base_events.py"):
            part = _LOOP
        frame = frame.f_back
    return part


@contextmanager
def sampled_cpu() -> Iterator[Shares]:
    """Sample while the body runs; the main thread only."""
    shares = Shares()
    before = signal.signal(signal.SIGPROF, lambda _, frame: shares.add(frame))
    signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
    try:
        yield shares
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
