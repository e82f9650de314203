"""Budgets: a run that has spent its tokens, money or hours stops where it can go on later with a higher limit."""

from __future__ import annotations

import time
from collections.abc import Callable

from tracemend.embedded.runfile import LimitSettings
from tracemend.kit.errors import TracemendError
from tracemend.kit.ports import Cost, Ledger

WALL = "wall"
"""The stage that wall time is booked under."""

_TICK_S = 1.0


class BudgetSpent(TracemendError):
    """A limit of the run file is reached; everything done so far is kept."""


class Budget:
    """Books wall time and compares what the ledger says was spent with the limits."""

    def __init__(
        self, limits: LimitSettings, *, ledger: Ledger, run: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._ledger = ledger
        self._run = run
        self._clock = clock
        self._last = clock()

    async def check(self) -> None:
        """Raise `BudgetSpent` once a limit is reached; cheap when called more than once a second."""
        if self._clock() - self._last >= _TICK_S:
            await self.book()
            self._compare(await self._ledger.costs(self._run))

    async def book(self) -> None:
        """Book the wall time since the last call."""
        now = self._clock()
        elapsed_s, self._last = now - self._last, now
        await self._ledger.add_cost(self._run, Cost(stage=WALL, seconds=elapsed_s))

    def _compare(self, costs: list[Cost]) -> None:
        spent = {
            "tokens": sum(cost.num_prompt_tokens + cost.num_new_tokens for cost in costs),
            "money": sum(cost.money for cost in costs),
            "hours": sum(cost.seconds for cost in costs if cost.stage == WALL) / 3600,
        }
        for name, amount in spent.items():
            limit = getattr(self._limits, name)
            if limit is not None and amount >= limit:
                raise BudgetSpent(
                    f"limits.{name}: {amount:,.6g} of {limit:,} spent; raise the limit in the run file and run "
                    "the same command again to go on"
                )
