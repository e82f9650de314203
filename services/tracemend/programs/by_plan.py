"""Things that are built once per plan and kept while they are used: stages, judges, what arms correct with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from tracemend.embedded.plan import Plan
from tracemend.programs.plans import Plans

T = TypeVar("T")

_MOST = 8
"""How many are kept although nobody has asked for them lately."""
_IDLE_S = 900.0


@dataclass(slots=True)
class _Kept(Generic[T]):
    thing: T
    stack: AsyncExitStack
    used_s: float


class ByPlan(Generic[T]):
    """Builds and keeps one thing per plan. Leave it as a context to close all of them."""

    def __init__(
        self,
        plans: Plans,
        build: Callable[[Plan], AbstractAsyncContextManager[T]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plans = plans
        self._build = build
        self._clock = clock
        self._kept: dict[str, _Kept[T]] = {}
        self._building = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for digest in list(self._kept):
            await self._kept.pop(digest).stack.aclose()

    def find(self, digest: str) -> T | None:
        """What was built for the plan, if it was."""
        kept = self._kept.get(digest)
        if kept is None:
            return None
        kept.used_s = self._clock()
        return kept.thing

    async def of(self, digest: str) -> T:
        """What is built for the plan; raises what reading it and building raise."""
        async with self._building:
            found = self.find(digest)
            if found is not None:
                return found
            async with AsyncExitStack() as stack:
                thing = await stack.enter_async_context(self._build(await self._plans.get(digest)))
                self._kept[digest] = _Kept(thing, stack.pop_all(), self._clock())
            await self._close_idle()
            return thing

    async def _close_idle(self) -> None:
        now_s = self._clock()
        for digest, kept in sorted(self._kept.items(), key=lambda item: item[1].used_s):
            if len(self._kept) <= _MOST or now_s - kept.used_s < _IDLE_S:
                return
            del self._kept[digest]
            await kept.stack.aclose()
