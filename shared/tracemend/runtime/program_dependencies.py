"""What a service needs to do its work, looked at again and again: adapters that answer, a consumer that is assigned.

`program` asks it. A dependency that has never answered keeps the service from starting; one that stops answering makes
it unready, and ends it after a while, because a process that nobody can use should say so by its exit code. An outage
never touches liveness: restarting does not bring a broker back, and loses loaded models.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import structlog

from tracemend.kit.errors import SetupError, TracemendError
from tracemend.kit.telemetry import DEPENDENCY_UP, Telemetry
from tracemend.runtime.program_settings import DependencySettings

Check: TypeAlias = Callable[[], Awaitable[object]]
"""Returns, whatever it returns, when the dependency can be used."""

log = structlog.get_logger(__name__)


class LostDependency(TracemendError):
    """A dependency has not answered for longer than the settings allow."""

    def __init__(self, name: str, *, away_s: float) -> None:
        super().__init__(f"{name} has not answered for {away_s:.0f} s")
        self.name = name
        self.away_s = away_s


@dataclass(slots=True, kw_only=True)
class _Dependency:
    name: str
    check: Check
    since_s: float
    """When it last answered, or when it was first asked."""
    answers: bool = False
    trouble: str = "not asked yet"


class Dependencies:
    """Asks every dependency, and remembers what it said."""

    def __init__(
        self, settings: DependencySettings, telemetry: Telemetry, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._all: list[_Dependency] = []

    def add(self, name: str, check: Check) -> None:
        """Ask `check` as well from now on."""
        self._all.append(_Dependency(name=name, check=check, since_s=self._clock()))

    @property
    def names(self) -> list[str]:
        return [one.name for one in self._all]

    @property
    def all_answer(self) -> bool:
        return all(one.answers for one in self._all)

    def told(self) -> dict[str, Any]:
        """Name to `ok`, or for how long it has been away and the type of the error."""
        now = self._clock()
        return {one.name: "ok" if one.answers else f"{one.trouble}, {now - one.since_s:.0f} s" for one in self._all}

    async def answered(self) -> None:
        """Return once every dependency answers. Raises a check's `SetupError` at once, and `LostDependency` when one
        does not answer in time."""
        while True:
            await self._ask_all(is_starting=True)
            if self.all_answer:
                return
            self._give_up_after(self._settings.start_within_s)
            await asyncio.sleep(min(1.0, self._settings.check_every_s))

    async def watch(self, changed: Callable[[], None]) -> None:
        """Ask for ever, and call `changed` after each round; raises `LostDependency` when one is away for too long."""
        while True:
            await asyncio.sleep(self._settings.check_every_s)
            await self._ask_all()
            changed()
            self._give_up_after(self._settings.lost_after_s)

    def _give_up_after(self, limit_s: float) -> None:
        now = self._clock()
        for one in self._all:
            if not one.answers and now - one.since_s >= limit_s:
                raise LostDependency(one.name, away_s=now - one.since_s)

    async def _ask_all(self, *, is_starting: bool = False) -> None:
        await asyncio.gather(*(self._ask(one, is_starting=is_starting) for one in self._all))

    async def _ask(self, one: _Dependency, *, is_starting: bool) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await one.check()
        except SetupError:
            if is_starting:
                raise
            self._note(one, "SetupError")
        except Exception as trouble:  # noqa: BLE001 - adapters fail in their own ways, and all of them mean: away
            self._note(one, type(trouble).__name__)
        else:
            self._note(one, "")

    def _note(self, one: _Dependency, trouble: str) -> None:
        if trouble and (one.answers or one.trouble != trouble):
            log.warning("dependency is away", dependency=one.name, error=trouble)
        elif not trouble and not one.answers:
            log.info("dependency answers", dependency=one.name)
        one.answers, one.trouble = not trouble, trouble
        if not trouble:
            one.since_s = self._clock()
        self._telemetry.gauge(DEPENDENCY_UP, float(one.answers), dependency=one.name)
