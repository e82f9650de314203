"""The real stages of a plan, as the services run them: engines opened, judges built, the run's sections handed over.

One function per stage; each is a context that closes the engines it opened. They are composed of the same parts as the
embedded pipeline, so that equal plans do equal work under equal keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tracemend.corrector.stage import CorrectorStage, TeacherStage
from tracemend.embedded.ancestors import Ancestors
from tracemend.embedded.checking import check_corrections
from tracemend.embedded.locating import TemplateLocator
from tracemend.embedded.models import Engine, Target, locate_target, open_helpers, template_of
from tracemend.embedded.plan import Plan
from tracemend.embedded.progress import Silent
from tracemend.embedded.runfile import BASE
from tracemend.generator.service import Generator
from tracemend.generator.stage import GeneratorStage
from tracemend.judge.service import JudgeService
from tracemend.judge.stage import JudgeStage
from tracemend.kit.ports import TextModel
from tracemend.kit.prices import Price, price_of
from tracemend.kit.results import Results
from tracemend.kit.stage import Stage
from tracemend.kit.telemetry import NO_TELEMETRY, Telemetry
from tracemend.runtime.telemetry_ports import measured_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Builds stages for one program. `cache` is where the proving ground's own model lies."""

    results: Results
    cache: Path
    telemetry: Telemetry = NO_TELEMETRY
    prices: Mapping[str, Price] = field(default_factory=dict)
    """What models cost, by their names in run files; `target` for the target."""

    @asynccontextmanager
    async def sampler(self, plan: Plan) -> AsyncIterator[Generator]:
        """The plan's target with an engine open on it."""
        engine = Engine(dressed=lambda model: self._measured(model, "target"))
        try:
            yield await engine.on(await self.target(plan))
        finally:
            await engine.release()

    @asynccontextmanager
    async def generator(self, plan: Plan) -> AsyncIterator[Stage]:
        """Samples the plan's target."""
        async with self.sampler(plan) as generator:
            yield GeneratorStage(generator)

    @asynccontextmanager
    async def judge(self, plan: Plan) -> AsyncIterator[Stage]:
        """Judges by the plan's `judge` section."""
        async with self.models(plan, plan.run.judge.named_models) as models:
            yield JudgeStage(await self.judges(plan, models), self.results)

    @asynccontextmanager
    async def corrector(self, plan: Plan) -> AsyncIterator[Stage]:
        """Decides on the units of the arms that start from the base."""
        corrections = plan.corrections(BASE)
        arms = [arm for parent in plan.parents() for arm in plan.corrections(parent).arms]
        named = {name for arm in arms for name in arm.correct.models}
        async with self.models(plan, {*plan.run.judge.named_models, *named}) as models:
            check_corrections(plan, models=models)
            yield CorrectorStage(
                corrections,
                ancestry=Ancestors(await self.judges(plan, models), self.results),
                identities={name: model.identity for name, model in models.items()},
                sampling=plan.run.target.sampling.record(),
            )

    @asynccontextmanager
    async def teacher(self, plan: Plan) -> AsyncIterator[Stage]:
        """Has the strong models of those arms write."""
        corrections = plan.corrections(BASE)
        async with self.models(plan, {name for arm in corrections.arms for name in arm.correct.models}) as models:
            yield TeacherStage(corrections, models)

    # ---------------------------------------------------------------------------------------- parts

    async def target(self, plan: Plan) -> Target:
        """Where the plan's target lies."""
        return await locate_target(plan.run.target, seed=plan.run.seed, cache=self.cache, observer=Silent())

    async def judges(self, plan: Plan, models: Mapping[str, TextModel]) -> JudgeService:
        """The plan's judges over `models`, with the target's tokenizer at hand where they look for cuts."""
        template = None
        if plan.run.judge.detector is not None:
            template = await asyncio.to_thread(template_of, await self.target(plan))
        return JudgeService.build(plan.run.judge, models, locator=TemplateLocator(lambda: template))

    @asynccontextmanager
    async def models(self, plan: Plan, names: set[str] | frozenset[str]) -> AsyncIterator[dict[str, TextModel]]:
        """Those of the plan's helper models that are called so; what a section names in vain, its builder tells."""
        wanted = {name: model for name, model in plan.run.models.items() if name in names}
        async with open_helpers(wanted) as models:
            yield {name: self._measured(model, name) for name, model in models.items()}

    def _measured(self, model: TextModel, name: str) -> TextModel:
        return measured_model(model, self.telemetry, name=name, price=price_of(self.prices, name))
