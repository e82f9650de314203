"""How fast one person may do a thing: a token bucket for each name, which forgets those whose bucket is full again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_MAX_NAMES = 4096


class Pace:
    """At most `number` at once, and as many a minute."""

    def __init__(self, number: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._number = number
        self._per_s = number / 60
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, name: str) -> float:
        """Takes one for `name` and returns 0; where there is none left, the seconds until there is."""
        now = self._clock()
        left, at = self._buckets.pop(name, (float(self._number), now))
        left = min(self._number, left + (now - at) * self._per_s)
        wait_s = 0.0 if left >= 1 else (1 - left) / self._per_s
        self._buckets[name] = (left if wait_s else left - 1, now)
        while len(self._buckets) > _MAX_NAMES:
            self._buckets.popitem(last=False)
        return wait_s
