"""The evaluator service: measurements as jobs, and the reports that runs end in."""

from __future__ import annotations

from tracemend.evaluator.servicer import EvaluatorServicer, registration
from tracemend.programs.job_terms import RunEvaluations, RunReports
from tracemend.programs.jobs import JobHands, open_runner
from tracemend.programs.parts import open_parts
from tracemend.programs.serving import open_face
from tracemend.runtime.program import Program
from tracemend.runtime.program_settings import EvaluatorSettings
from tracemend.runtime.rpc.pages import open_pages


async def main(settings: EvaluatorSettings, program: Program[EvaluatorSettings]) -> None:
    """Serve until told to stop."""
    async with open_parts(settings, program) as parts, JobHands(open_runner(parts, settings)) as hands:
        servicer = EvaluatorServicer(
            RunEvaluations(parts=parts),
            reports=RunReports(parts=parts),
            jobs=parts.tables.jobs,
            worker=hands,
            pages=open_pages(settings.rpc.page_key_file),
        )
        await open_face(settings, program, parts, [registration(servicer)])
        await program.serve()
