"""The generator service: samples of one served target, forks before fresh samples.

What the target is, plans say. The gRPC face is there from the start, and says NOT_SERVING until the engine of the first
plan is open; until then there is no model to describe or to ask.
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
from tracemend.runtime.rpc.server import RpcServer
from tracemend.topics import of_targets


async def main(settings: GeneratorSettings, program: Program[GeneratorSettings]) -> None:
    """Serve until told to stop."""
    if not settings.target:
        raise SetupError("target: is missing; set TRACEMEND_TARGET to the name of the target that is served here")
    async with open_parts(settings, program, topics=of_targets([settings.target])) as parts:
        servicer = GeneratorServicer()
        face = await open_face(settings, program, parts, [registration(servicer)])
        await face.set_serving(False)
        stage = PlannedStage(
            f"generator-{settings.target}",
            topics_of(settings.target),
            plans=parts.plans,
            runs=parts.runs,
            build=_Serving(target=settings.target, parts=parts, servicer=servicer, face=face).stage,
        )
        async with stage:
            run_pumps(program, [parts.pump(stage)])
            await program.serve()


@dataclass(slots=True, kw_only=True)
class _Serving:
    """Builds stages, and tells the face which model is open."""

    target: str
    parts: Parts
    servicer: GeneratorServicer
    face: RpcServer

    @asynccontextmanager
    async def stage(self, plan: Plan) -> AsyncIterator[Stage]:
        async with self.parts.build.sampler(plan) as generator:
            served = Served(
                target=self.target,
                generator=generator,
                engine=plan.run.target.engine.partition(":")[0],
                reasoning_format=generator.reasoning_format,
                capabilities=generator.capabilities,
            )
            self.servicer.serve(served)
            await self.face.set_serving(True)
            try:
                yield GeneratorStage(generator)
            finally:
                if self.servicer.close(served):
                    await self.face.set_serving(False)
