"""What the judge's and the corrector's servicers ask for: judges, and what arms correct with, by a plan's digest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from tracemend.corrector.service import TeacherService
from tracemend.corrector.servicer import Correcting
from tracemend.embedded.pipeline import identities_of
from tracemend.embedded.plan import Plan
from tracemend.embedded.runfile import BASE
from tracemend.judge.service import JudgeService
from tracemend.programs.building import Builder
from tracemend.programs.by_plan import ByPlan
from tracemend.programs.plans import UnknownPlan
from tracemend.runtime.rpc.faults import not_found

T = TypeVar("T")


class KnownPlans(Generic[T]):
    """`judge.servicer.Panels` and `corrector.servicer.Corrections`: what is built by plan; NOT_FOUND without one."""

    def __init__(self, kept: ByPlan[T]) -> None:
        self._kept = kept

    async def of(self, plan: str) -> T:
        try:
            return await self._kept.of(plan)
        except UnknownPlan:
            raise not_found(f"plan {plan}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Builds both for one program."""

    build: Builder

    @asynccontextmanager
    async def judges(self, plan: Plan) -> AsyncIterator[JudgeService]:
        async with self.build.models(plan, plan.run.judge.named_models) as models:
            yield await self.build.judges(plan, models)

    @asynccontextmanager
    async def correcting(self, plan: Plan) -> AsyncIterator[Correcting]:
        corrections = plan.corrections(BASE)
        named = {name for arm in corrections.arms for name in arm.correct.models}
        async with self.build.models(plan, named) as models:
            yield Correcting(
                plan=corrections,
                teachers=TeacherService(corrections, models),
                identities=identities_of(models),
                sampling=plan.run.target.sampling.record(),
            )
