"""A service process for the tests of a process's life: `python toy_program.py KIND`, settings from the environment."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import structlog

from tracemend.kit.errors import SetupError
from tracemend.kit.telemetry import ITEMS
from tracemend.redaction import Text
from tracemend.runtime.program import Phase, Program, run_program
from tracemend.runtime.program_configuration import load
from tracemend.runtime.program_settings import JudgeSettings

SECRET = "the quick brown canary"
log = structlog.get_logger("toy")


async def main(settings: JudgeSettings, program: Program[JudgeSettings]) -> None:
    """Does what `sys.argv[1]` names, tells what it does on standard output."""
    await KINDS[sys.argv[1]](program)


async def answering() -> None:
    """Away while the file that TOY_AWAY names exists."""
    if Path(os.environ.get("TOY_AWAY", "/nonexistent")).exists():
        raise ConnectionError(SECRET)


async def drains(program: Program[JudgeSettings]) -> None:
    for phase in reversed(Phase):
        program.on_drain(phase, phase.name, _saying(phase.name))
    program.runs("work", _working())
    await _serve(program)


async def drags(program: Program[JudgeSettings]) -> None:
    program.on_drain(Phase.FINISH, "long work", lambda _left_s: asyncio.sleep(60))
    await _serve(program)


async def hangs(program: Program[JudgeSettings]) -> None:
    def block() -> None:
        say("blocking")
        time.sleep(60)

    asyncio.get_running_loop().call_later(0.2, block)
    await _serve(program)


async def breaks(program: Program[JudgeSettings]) -> None:
    async def work() -> None:
        raise ValueError(SECRET)

    program.runs("work", work())
    await _serve(program)


async def misses(program: Program[JudgeSettings]) -> None:
    async def pump() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_refused())

    program.runs("pump", pump())
    await _serve(program)


async def opens(program: Program[JudgeSettings]) -> None:
    say("opening")
    await asyncio.sleep(60)


async def measures(program: Program[JudgeSettings]) -> None:
    program.telemetry.item("judge", "done", seconds=0.5)
    program.telemetry.count(ITEMS, stage=Text(SECRET), outcome="done")
    with program.telemetry.span("process judge", note=Text(SECRET)):
        log.warning("looked", text=Text(SECRET), nested={"texts": [Text(SECRET)]}, error=ValueError(SECRET))
    await _serve(program)


async def _serve(program: Program[JudgeSettings]) -> None:
    program.depends_on("bus", answering)
    await program.serve()
    say("closed")


async def _refused() -> None:
    raise SetupError("the key is refused: set another one")


async def _working() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        say("work ended")


def _saying(name: str):  # type: ignore[no-untyped-def]  # a step, whose type is the program's
    async def step(_left_s: float) -> None:
        say(name)

    return step


def say(word: str) -> None:
    print(word, flush=True)


KINDS = {f.__name__: f for f in (drains, drags, hangs, breaks, misses, opens, measures)}

if __name__ == "__main__":
    raise SystemExit(run_program(main, load(JudgeSettings)))
