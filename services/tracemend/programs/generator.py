"""The generator service: samples of one served target, forks before fresh samples.

What the target is, plans say. The gRPC face opens with the engine of the first plan that comes by; until then there is
no model to describe or to ask.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tracemend.embedded.plan import Plan
from tracemend.generator.servicer import GeneratorServicer, Served, registration
from tracemend.generator.stage import GeneratorStage
from tracemend.kit.errors import SetupError
from tracemend.kit.stage import Stage
from tracemend.programs.parts import Parts, open_parts, run_pumps
from tracemend.programs.planned import PlannedStage
from tracemend.programs.routing import topics_of
from tracemend.programs.serving import open_face
from tracemend.runtime.program import Program
from tracemend.runtime.program_settings import GeneratorSettings


async def main(settings: GeneratorSettings, program: Program[GeneratorSettings]) -> None:
    """Serve until told to stop."""
    if not settings.target:
        raise SetupError("target: is missing; set TRACEMEND_TARGET to the name of the target that is served here")
    async with open_parts(settings, program) as parts:
        stage = PlannedStage(
            f"generator-{settings.target}",
            topics_of(settings.target),
            plans=parts.plans,
            runs=parts.runs,
            build=_Serving(settings, program, parts).stage,
        )
        async with stage:
            run_pumps(program, [parts.pump(stage)])
            await program.serve()


@dataclass(slots=True)
class _Serving:
    """Builds stages, and opens the face with the first one."""

    settings: GeneratorSettings
    program: Program[GeneratorSettings]
    parts: Parts
    is_open: bool = False

    @asynccontextmanager
    async def stage(self, plan: Plan) -> AsyncIterator[Stage]:
        async with self.parts.build.sampler(plan) as generator:
            if not self.is_open:
                self.is_open = True
                served = Served(
                    target=self.settings.target,
                    generator=generator,
                    engine=plan.run.target.engine.partition(":")[0],
                    reasoning_format=generator.reasoning_format,
                    capabilities=generator.capabilities,
                )
                await open_face(self.settings, self.program, self.parts, [registration(GeneratorServicer(served))])
            yield GeneratorStage(generator)
