"""The event loop's watchdog: how late the loop wakes, and where it stands when it does not wake at all.

A task beats on the loop; a thread looks at the beats. A loop that misses them for longer than the limit is counted and
its thread's stack goes to the log, as files, lines and functions: the code that blocks is found without a debugger.
`/healthz` asks for the age of the last beat.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback

import structlog

from tracemend.kit.logs import place_of
from tracemend.kit.telemetry import LOOP_LAG, LOOP_STALLS, Telemetry

_BEAT_S = 0.25

log = structlog.get_logger(__name__)


class Watchdog:
    """Watches the running loop between `start` and `stop`."""

    def __init__(self, telemetry: Telemetry, *, stalled_after_s: float) -> None:
        self._telemetry = telemetry
        self._stalled_after_s = stalled_after_s
        self._beat_at = time.monotonic()
        self._stop = threading.Event()
        self._loop_thread = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def age_s(self) -> float:
        """Seconds since the loop's last beat."""
        return time.monotonic() - self._beat_at

    def start(self) -> None:
        """Watch the loop that this is called from."""
        self._loop_thread = threading.get_ident()
        self._beat_at = time.monotonic()
        self._task = asyncio.get_running_loop().create_task(self._beat(), name="watchdog")
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            self._telemetry.gauge(LOOP_LAG, max(0.0, self.age_s - _BEAT_S))
            self._beat_at = time.monotonic()

    def _watch(self) -> None:
        told = False
        while not self._stop.wait(min(_BEAT_S, self._stalled_after_s / 4)):
            is_stalled = self.age_s > self._stalled_after_s
            if is_stalled and not told:
                self._telemetry.count(LOOP_STALLS)
                self._telemetry.gauge(LOOP_LAG, self.age_s)
                log.error("event loop is blocked", for_s=round(self.age_s, 1), at=self._where())
            elif told and not is_stalled:
                log.warning("event loop turns again")
            told = is_stalled

    def _where(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)
        return place_of(traceback.extract_stack(frame)) if frame is not None else "its thread has ended"
