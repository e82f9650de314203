"""How many requests an endpoint gets at once: additive increase, multiplicative decrease.

Called by the openai engine. The limit creeps up while requests succeed and halves when the endpoint pushes back. All
requests that were under way when it pushed back count as one signal, or one burst of refusals would end at a limit of
one.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Pace:
    """A semaphore whose size follows the endpoint. Used from one event loop."""

    def __init__(self, *, start: int, most: int) -> None:
        if not 1 <= start <= most:
            raise ValueError(f"concurrency must lie between 1 and max_concurrency, not {start} of {most}")
        self.limit = float(start)
        self.num_active = 0
        self._most = most
        self._line: deque[asyncio.Future[None]] = deque()
        self._era = 0

    async def enter(self) -> int:
        """Wait for a place, first come first served; the era that it returns goes back into `leave`."""
        if self.num_active < int(self.limit) and not self._line:
            self.num_active += 1
            return self._era
        place = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # the place was ours already: pass it on
                self.num_active -= 1
                self._hand_over()
            raise
        return self._era

    def leave(self, era: int, *, pushed_back: bool | None) -> None:
        """Give the place back, and say how it went; None where nothing was heard of the endpoint."""
        if pushed_back:
            if era == self._era:
                self.limit = max(1.0, self.limit / 2)
                self._era += 1
        elif pushed_back is False and self.num_active >= int(
            self.limit
        ):  # an unused limit has not been tested, so it must not grow
            # Until the first push-back the limit doubles with each round; afterwards it gains one per round.
            self.limit = min(float(self._most), self.limit + (1 / self.limit if self._era else 1))
        self.num_active -= 1
        self._hand_over()

    def _hand_over(self) -> None:
        while self.num_active < int(self.limit) and self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_result(None)
                self.num_active += 1
