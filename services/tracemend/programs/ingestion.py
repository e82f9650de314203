"""The ingestion service: the door for runs and prompts; seals intakes, and feeds the loop with what is admitted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tracemend.ingestion.books import LedgerBooks
from tracemend.ingestion.servicer import Ingestion, IngestionServicer, registration
from tracemend.ingestion.uploads import UploadSettings
from tracemend.kit.run_states import RunState
from tracemend.programs.feeding import Feeder
from tracemend.programs.front_door import Buried, Redriver, ServedPlans, ToldStories
from tracemend.programs.measuring import measure_backlogs
from tracemend.programs.parts import Parts, open_parts
from tracemend.programs.sealing import Sealer
from tracemend.programs.serving import open_face
from tracemend.programs.tending import Tender, Work
from tracemend.runtime.opening import open_backlogs, open_dead_letters, open_topic_keeper
from tracemend.runtime.program import Program
from tracemend.runtime.program_settings import IngestionSettings
from tracemend.runtime.rpc.pages import open_pages


async def main(settings: IngestionSettings, program: Program[IngestionSettings]) -> None:
    """Serve until told to stop."""
    async with open_parts(settings, program) as parts, _servicer(settings, parts) as servicer:
        await open_face(settings, program, parts, [registration(servicer)])
        if settings.coordinates:
            program.runs("sealing", _tender(parts, "seal", Sealer(parts=parts).seal, RunState.SEALED).run())
            program.runs("measuring", measure_backlogs(open_backlogs(settings.bus), parts.telemetry))
            program.runs("feeding", _tender(parts, "feed", Feeder(parts=parts).feed, RunState.RUNNING).run())
        await program.serve()


def _tender(parts: Parts, name: str, work: Work, state: RunState) -> Tender:
    return Tender(name, work, states=frozenset({state}), tables=parts.tables, fail=parts.runs.fail)


@asynccontextmanager
async def _servicer(settings: IngestionSettings, parts: Parts) -> AsyncIterator[IngestionServicer]:
    topics = await asyncio.to_thread(open_topic_keeper, settings.bus)
    letters = await asyncio.to_thread(open_dead_letters, settings.bus)
    try:
        ingestion = Ingestion(
            runs=parts.tables.runs,
            uploads=parts.tables.uploads,
            store=parts.workspace.store,
            plans=ServedPlans(parts=parts, topics=topics),
            books=LedgerBooks(parts.workspace.ledger),
            redriving=Redriver(parts=parts),
            stories=ToldStories(parts=parts),
            letters=Buried(letters_of=letters, parts=parts),
            telemetry=parts.telemetry,
        )
        yield IngestionServicer(ingestion, pages=open_pages(settings.rpc.page_key_file), uploads=UploadSettings())
    finally:
        await letters.aclose()
        await topics.aclose()
