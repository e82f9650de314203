"""Budgets: a run that has spent its tokens, money or hours stops where it can go on later with a higher limit.

`Budget` watches a run in one process; whoever drives runs elsewhere asks `overspent` about the ledger's sums.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from tracemend.embedded.runfile import LimitSettings
from tracemend.kit.errors import TracemendError
from tracemend.kit.ports import Cost, Ledger

T = TypeVar("T")

WALL = "wall"
"""The stage that wall time is booked under."""

_TICK_S = 1.0


class BudgetSpent(TracemendError):
    """A limit of the run file is reached; everything done so far is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overspent:
    """A limit that is reached."""

    limit: str
    """Its key under `limits`."""
    amount: float
    allowed: float


def overspent(limits: LimitSettings, costs: Iterable[Cost]) -> Overspent | None:
    """The first of `limits` that `costs`, a run's sums by stage, have reached; None while there is something left."""
    costs = list(costs)
    spent: dict[str, tuple[float, float | None]] = {
        "tokens": (sum(cost.num_prompt_tokens + cost.num_new_tokens for cost in costs), limits.tokens),
        "money": (sum(cost.money for cost in costs), limits.money),
        "hours": (sum(cost.seconds for cost in costs if cost.stage == WALL) / 3600, limits.hours),
    }
    for name, (amount, allowed) in spent.items():
        if allowed is not None and amount >= allowed:
            return Overspent(limit=name, amount=amount, allowed=allowed)
    return None


class Budget:
    """Books wall time and compares what the ledger says was spent with the limits."""

    def __init__(
        self,
        limits: LimitSettings,
        *,
        ledger: Ledger,
        run: str,
        clock: Callable[[], float] = time.monotonic,
        since_s: float | None = None,
    ) -> None:
        """`since_s` is the time on `clock` that wall time is booked from; None for now."""
        self._limits = limits
        self._ledger = ledger
        self._run = run
        self._clock = clock
        self._began = self._last = clock() if since_s is None else since_s
        self._name = uuid.uuid4().hex[:12]

    async def check(self) -> None:
        """Raise `BudgetSpent` once a limit is reached; cheap when called more than once a second."""
        if self._clock() - self._last >= _TICK_S:
            await self.book()
            spent = overspent(self._limits, await self._ledger.costs(self._run))
            if spent is not None:
                raise BudgetSpent(
                    f"limits.{spent.limit}: {spent.amount:,.6g} of {spent.allowed:,} spent; raise the limit in the run "
                    "file and run the same command again to go on"
                )

    async def over(self, work: Coroutine[Any, Any, T]) -> T:
        """What long `work` gives, with an eye on the limits: once one is reached the work is cancelled, and when it has
        ended `BudgetSpent` is raised."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=_TICK_S))[0]:
                await self.check()
            return await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def book(self) -> None:
        """Book the wall time until now."""
        self._last = self._clock()
        elapsed_s = self._last - self._began
        await self._ledger.book_cost(self._run, Cost(stage=WALL, seconds=elapsed_s), by=self._name)
