"""One run of tracemend's embedded generation: rows read and admitted, sampled, kept in the ledger and the store.

    python -m benchmarks.peers.with_tracemend --url URL --rows FILE --answers FILE --cache FOLDER

The parts are those of a run in one process up to the judge, in a process settled as the command settles its own.
Filters that the peers have no part like are off (near duplicates: the rows differ in a number alone; decontamination:
there is no benchmark to be clean of).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tracemend.kit.own_process import run as run_in_event_loop
from tracemend.kit.own_process import settle

if TYPE_CHECKING:
    from tracemend.embedded.runfile import RunFile
    from tracemend.records import Trajectory


def run_file(url: str, rows: Path) -> RunFile:
    """One sample of each row from the endpoint."""
    from tracemend.embedded.runfile import RunFile

    return RunFile.model_validate(
        {
            "name": "peers",
            "prompts": [
                {"source": "jsonl", "path": str(rows), "columns": {"text": "prompt"}, "category": "harmful"},
            ],
            "ingestion": {"filters": {"near_duplicates": False, "decontamination": False}},
            "target": {
                "model": "null",
                "engine": f"openai:null@{url}",
                "samples": 1,
                "sampling": {"max_new_tokens": 256},
            },
            "judge": {axis: {"name": "last_word"} for axis in ("harm", "refusal", "correctness")},
            "arms": {"filter": {"correct": {"strategy": "filter"}}},
        }
    )


async def generate(url: str, rows: Path, folder: Path) -> list[Trajectory]:
    """A trajectory per row, each durable before it is counted."""
    from tracemend.embedded.flows import Flow, Sampler
    from tracemend.embedded.intake import prompts_of, seal
    from tracemend.embedded.models import engine_of
    from tracemend.embedded.pipeline import run_id
    from tracemend.embedded.plan import resolve
    from tracemend.embedded.progress import Silent
    from tracemend.embedded.workspace import open_workspace
    from tracemend.generator.service import Generator
    from tracemend.generator.stage import GeneratorStage
    from tracemend.runtime.models import open_model
    from tracemend.topics import TRAJECTORIES
    from tracemend.traces.formats import get_format

    plan = resolve(run_file(url, rows))
    run = run_id(plan, target=plan.run.target.engine)
    engine = open_model(engine_of(plan.run.target), options=plan.run.target.engine_options)
    generator = Generator(engine, template=None, reasoning_format=get_format("think"))
    found: list[Trajectory] = []
    async with open_workspace(folder) as workspace:
        await workspace.ledger.open_run(run, plan=plan.digest)
        await seal(workspace, run=run, plan=plan, benchmarks=[], observer=Silent())
        flow = Flow.of_plan(plan, workspace=workspace, run=run, observer=Silent(), check=_unlimited)
        arriving = flow.bus.subscribe((TRAJECTORIES,), group="collector")

        async def collect() -> None:
            async for delivery in arriving:
                found.append(delivery.message.record)
                await delivery.ack()
                flow.window.leave(delivery.message.record.prompt.id)

        flow.add(GeneratorStage(generator))
        sampler = Sampler(model=generator.identity, sampling=plan.run.target.sampling.record(), num_samples=1)
        await flow.drive(prompts_of(workspace, run), sampler, joins=False, others=[collect()])
    await engine.aclose()
    return found


async def _unlimited() -> None:
    """No budget."""


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--url", "--rows", "--answers", "--cache"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    settle()
    trajectories = run_in_event_loop(generate(options.url, Path(options.rows), Path(options.cache)))
    with Path(options.answers).open("w", encoding="utf-8") as file:
        for trajectory in trajectories:
            row = {"prompt": trajectory.prompt.text.reveal(), "answer": trajectory.answer.reveal()}
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
