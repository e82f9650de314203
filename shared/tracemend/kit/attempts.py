"""The attempts that a pump has counted in the ledger and not closed yet.

Used by `kit.pump` alone. What is counted and neither finished nor closed counts as a crash, so a pump that stops in
good order closes what it has begun.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tracemend.kit import crash_points
from tracemend.kit.ports import Ledger
from tracemend.kit.results import Product, Results


class Attempts:
    """Counts attempts on work keys for `worker`."""

    def __init__(self, ledger: Ledger, results: Results, *, worker: str) -> None:
        self._ledger = ledger
        self._results = results
        self._worker = worker
        self._open: set[str] = set()

    async def take_up(self, keys: Sequence[str]) -> tuple[dict[str, tuple[Product, ...]], dict[str, int]]:
        """What is known of `keys`; for the others an attempt is counted, and how many earlier ones ended in a crash is
        the second."""
        if not keys:
            return {}, {}
        self._open.update(keys)  # first: a stop while the ledger counts must close what it may have counted
        done, crashed = await self._ledger.take_up(keys, worker=self._worker)
        if crash_points.is_missing(crash_points.DEDUPLICATION):
            return {}, crashed
        self._open.difference_update(done)
        return await self._results.read_all(done), crashed

    async def begin(self, keys: Sequence[str]) -> None:
        """Count an attempt on each of `keys`."""
        if keys:
            self._open.update(keys)
            await self._ledger.begin(keys, worker=self._worker)

    async def withdraw(self, keys: Collection[str]) -> None:
        """Uncount the attempts on work that will not be done now."""
        if keys:
            await self._ledger.close_attempts(sorted(keys))
            self._open.difference_update(keys)

    def finish(self, keys: Collection[str]) -> None:
        """Their results are in the ledger."""
        self._open.difference_update(keys)

    async def close(self) -> None:
        """Close what is open."""
        await self.withdraw(tuple(self._open))
