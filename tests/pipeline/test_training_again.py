"""A training that a limit stops goes on from its checkpoint; a model that is trained again takes its children along."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.tiny_runs import ROWS, arm, build_model, document, run_tiny

from tracemend.embedded.budget import WALL, BudgetSpent
from tracemend.embedded.exporting import export
from tracemend.embedded.laws import check_laws
from tracemend.embedded.looking import open_run
from tracemend.embedded.progress import Silent
from tracemend.embedded.purging import PURGED, purge
from tracemend.embedded.workspace import open_workspace
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import ConcludedUnit
from tracemend.records import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LORA = {"r": 4, "alpha": 8}


class Steps(Silent):
    """Keeps the steps that a training reports; each takes `pause_s` longer."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.seen: list[int] = []
        self._pause_s = pause_s

    def training(self, step: int, num_steps: int, loss: float) -> None:
        self.seen.append(step)
        time.sleep(self._pause_s)


class Stopped(Exception):
    """Stands for the end of the process."""


class StopsBeforeTraining(Silent):
    def phase(self, name: str, *, total: int | None = None, note: str = "") -> None:
        if name.startswith("train"):
            raise Stopped


def is_green(out: Path) -> bool:
    async def body() -> bool:
        async with open_run(out) as opened:
            return all(f.holds for f in await check_laws(opened.workspace, run=opened.run, plan=opened.plan))

    return asyncio.run(body())


def spent_hours(out: Path) -> float:
    async def body() -> float:
        async with open_run(out) as opened:
            costs = await opened.workspace.ledger.costs(opened.run)
            return sum(cost.seconds for cost in costs if cost.stage == WALL) / 3600

    return asyncio.run(body())


def units(out: Path, name: str) -> list[tuple[ConcludedUnit, Outcome]]:
    async def body() -> list[tuple[ConcludedUnit, Outcome]]:
        async with open_run(out) as opened:
            ended = [unit async for unit in opened.workspace.ledger.outcomes(opened.run, arm=name)]
            return [(unit, (await opened.workspace.results.read(unit.address))[0][1]) for unit in ended]

    return asyncio.run(body())


def test_spent_hours_stop_a_training_which_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    model, out = build_model(tmp_path / "model"), tmp_path / "run"

    def written(hours: float) -> dict[str, Any]:
        arms = {"lora": arm(lora=LORA, epochs=12, save_steps=2)}
        return document(model, arms=arms) | {"limits": {"hours": hours}}

    plain = document(model, arms={"lora": {name: part for name, part in arm().items() if name != "train"}})
    run_tiny(plain, out)  # what the limit is not to stop: afterwards the training alone is left

    stopped, num_steps = Steps(pause_s=0.3), 12 * ROWS // 4
    for _ in range(20):  # a little more each time, as loading takes longer on a busy machine
        with pytest.raises(BudgetSpent, match="raise the limit in the run file and run the same command again"):
            run_tiny(written(hours=spent_hours(out) + 4 / 3600), out, observer=stopped)
        if max(stopped.seen, default=0) > 2:
            break
    assert 2 < max(stopped.seen) < num_steps
    assert is_green(out)

    rest = Steps()
    finished = run_tiny(written(hours=10), out, observer=rest)
    assert finished.checkpoints["lora"].step == num_steps == rest.seen[-1]
    assert 1 < rest.seen[0] <= max(stopped.seen) + 1
    assert is_green(out)


def test_arms_that_start_from_a_retrained_model_end_their_units_on_its_samples(tmp_path: Path) -> None:
    model, out = build_model(tmp_path / "model"), tmp_path / "run"
    run_file = document(model, arms={"parent": arm(), "child": {"from": "parent", **arm()}})
    run = run_tiny(run_file, out).run
    before = units(out, "child")
    assert {unit.epoch for unit, _ in before} == {0}
    victim = before[0][0].unit.prompt

    async def purged() -> None:
        async with open_workspace(out) as workspace:
            await purge(workspace, victim)

    async def exported() -> None:
        async with open_run(out) as opened:
            await export(opened, "child", to=tmp_path / "exported", what="model", force=False)

    asyncio.run(purged())  # the parent's rows are others now, and so will be its weights
    with pytest.raises(SetupError, match="is gone, as after a purge"):
        asyncio.run(exported())
    with pytest.raises(Stopped):
        run_tiny(run_file, out, observer=StopsBeforeTraining())  # new rows, and still the old models
    with pytest.raises(SetupError, match="is gone, as after a purge"):
        asyncio.run(exported())
    assert run_tiny(run_file, out).run == run
    assert is_green(out)
    asyncio.run(exported())
    after = {unit.unit.prompt: (unit, outcome) for unit, outcome in units(out, "child")}
    assert after.pop(victim)[0].reason == PURGED
    assert len(after) == ROWS - 1
    old = {outcome.original.trajectory.model for _, outcome in before if outcome.original}
    new = {outcome.original.trajectory.model for _, outcome in after.values() if outcome.original}
    assert len(old) == len(new) == 1
    assert old != new
    manifest = json.loads((out / "datasets" / "child" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["num_rows"] == ROWS - 1

    again = units(out, "child")
    run_tiny(run_file, out)
    assert units(out, "child") == again, "nothing changed, so nothing is done again"
