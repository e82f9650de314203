"""The corrector service: decides on every unit, and has strong models write what it decides to ask for."""

from __future__ import annotations

from tracemend.corrector.servicer import CorrectorServicer, registration
from tracemend.programs.by_plan import ByPlan
from tracemend.programs.panels import KnownPlans, Panel
from tracemend.programs.parts import open_parts, run_pumps
from tracemend.programs.planned import PlannedStage
from tracemend.programs.serving import open_face
from tracemend.runtime.program import Program
from tracemend.runtime.program_settings import CorrectorSettings
from tracemend.topics import GROUPS, REWRITES, VERDICTS


async def main(settings: CorrectorSettings, program: Program[CorrectorSettings]) -> None:
    """Serve until told to stop."""
    async with open_parts(settings, program) as parts:
        plans, runs = parts.plans, parts.runs
        decider = PlannedStage("corrector", (VERDICTS, GROUPS), plans=plans, runs=runs, build=parts.build.corrector)
        teacher = PlannedStage("teacher", (REWRITES,), plans=plans, runs=runs, build=parts.build.teacher)
        async with decider, teacher, ByPlan(parts.plans, Panel(build=parts.build).correcting) as kept:
            await open_face(settings, program, parts, [registration(CorrectorServicer(KnownPlans(kept)))])
            run_pumps(program, [parts.pump(decider), parts.pump(teacher)])
            await program.serve()
