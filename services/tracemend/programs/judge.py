"""The judge service: a verdict for every trajectory, and a group when all samples of a prompt have theirs."""

from __future__ import annotations

from tracemend.judge.servicer import JudgeServicer, registration
from tracemend.programs.by_plan import ByPlan
from tracemend.programs.panels import KnownPlans, Panel
from tracemend.programs.parts import open_parts, run_pumps
from tracemend.programs.planned import PlannedStage
from tracemend.programs.serving import open_face
from tracemend.runtime.program import Program
from tracemend.runtime.program_settings import JudgeSettings
from tracemend.topics import TRAJECTORIES


async def main(settings: JudgeSettings, program: Program[JudgeSettings]) -> None:
    """Serve until told to stop."""
    async with open_parts(settings, program) as parts:
        stage = PlannedStage("judge", (TRAJECTORIES,), plans=parts.plans, runs=parts.runs, build=parts.build.judge)
        async with stage, ByPlan(parts.plans, Panel(build=parts.build).judges) as panels:
            await open_face(settings, program, parts, [registration(JudgeServicer(KnownPlans(panels)))])
            run_pumps(program, [parts.pump(stage)])
            await program.serve()
