"""The trainer service: enters outcomes into the ledger, coordinates runs, and runs the jobs that end them."""

from __future__ import annotations

from collections.abc import Sequence

from tracemend.programs.coordinating import COORDINATED, Coordinator
from tracemend.programs.job_terms import RunTrainings
from tracemend.programs.jobs import JobHands, open_runner
from tracemend.programs.measuring import JobMeter
from tracemend.programs.parts import open_parts
from tracemend.programs.serving import open_face
from tracemend.programs.tending import Tender
from tracemend.records import Outcome
from tracemend.runtime.program import Program
from tracemend.runtime.program_settings import TrainerSettings
from tracemend.runtime.rpc.pages import open_pages
from tracemend.trainer.recorder import Recorder
from tracemend.trainer.servicer import TrainerServicer, registration


async def main(settings: TrainerSettings, program: Program[TrainerSettings]) -> None:
    """Serve until told to stop."""
    async with open_parts(settings, program) as parts:
        workspace, tables = parts.workspace, parts.tables
        recorder = Recorder(bus=parts.bus, results=workspace.results, ledger=workspace.ledger, heard=_nobody_waits)
        program.runs("recorder", recorder.run())
        runner = open_runner(parts, settings)
        coordinator = Coordinator(parts=parts, runner=runner)
        tender = Tender("coordinate", coordinator.coordinate, states=COORDINATED, tables=tables, fail=parts.runs.fail)
        program.runs("coordinator", tender.run())
        meter = JobMeter(jobs=tables.jobs, ledger=workspace.ledger, telemetry=parts.telemetry)
        program.runs("measuring", meter.measure())
        async with JobHands(runner) as hands:
            pages = open_pages(settings.rpc.page_key_file)
            servicer = TrainerServicer(RunTrainings(parts=parts), jobs=tables.jobs, worker=hands, pages=pages)
            await open_face(settings, program, parts, [registration(servicer)])
            await program.serve()


async def _nobody_waits(outcomes: Sequence[Outcome]) -> None:
    """Feeders ask the ledger."""
