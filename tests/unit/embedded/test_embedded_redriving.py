"""Redriven units end once more, with new attempts, and what died is worked again; everything else stays as it was."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.embedded.small_runs import TEXT, run_small
from tests.unit.embedded.small_runs import small as small_run

from tracemend.adapters.scripted.null_target import null_target
from tracemend.adapters.scripted.null_teacher import null_teacher
from tracemend.adapters.scripts import last_user_message, scripts
from tracemend.embedded.laws import check_laws
from tracemend.embedded.looking import open_run, plan_of
from tracemend.embedded.plan import resolve
from tracemend.embedded.purging import purge
from tracemend.embedded.redriving import Redriven, follow_parent, redrive
from tracemend.embedded.runfile import RunFile, parse_run_file
from tracemend.embedded.workspace import Workspace, current_run, open_workspace
from tracemend.kit.errors import Reject, SetupError
from tracemend.kit.ports import Completion, ConcludedUnit, ModelRequest
from tracemend.redaction import Text


class Weather:
    """What is wrong with the scripted models at the moment."""

    is_bad = False


@scripts.register
def weathered(*, role: str) -> Callable[[ModelRequest], Completion]:
    """`null_target`, which breaks on every fifth prompt while the weather is bad, or `null_teacher`, whose texts on two
    of three prompts stay unsafe as long."""
    writes = null_target() if role == "target" else null_teacher()

    def complete(request: ModelRequest) -> Completion:
        written = writes(request)
        number = re.search(r"number (\d+)", last_user_message(request))
        assert number is not None
        if not Weather.is_bad:
            return written
        if role == "teacher" and int(number[1]) % 3:
            return replace(written, text=Text(written.text.reveal().replace("is safe.", "is unsafe.")))
        if role == "target" and int(number[1]) % 5 == 0:
            raise Reject("broken_engine")
        return written

    return complete


@pytest.fixture(autouse=True)
def weather() -> Iterator[None]:
    Weather.is_bad = False
    yield
    Weather.is_bad = False


def settings() -> RunFile:
    text = TEXT.replace('"scripted:null_target"', '"scripted:test_embedded_redriving", engine_options: {role: target}')
    text = text.replace('"scripted:null_teacher"', '"scripted:test_embedded_redriving", options: {role: teacher}')
    text = text.replace("strategy: rewrite,", "strategy: rewrite, attempts: 2,")
    return parse_run_file(text, name="run.yaml")


def go(folder: Path) -> str:
    chosen = settings()
    return run_small(folder, models=chosen.models, target=chosen.target, arms=chosen.arms).run


def redriven(folder: Path, *, arm: str | None = None, reason: str | None = None) -> Redriven:
    async def body() -> Redriven:
        run = current_run(folder)
        async with open_workspace(folder) as workspace:
            plan = await plan_of(workspace, run)
            return await redrive(workspace, run=run, plan=plan, arm=arm, reason=reason)

    return asyncio.run(body())


def units(folder: Path, arm: str) -> list[ConcludedUnit]:
    async def body() -> list[ConcludedUnit]:
        async with open_run(folder) as opened:
            return [unit async for unit in opened.workspace.ledger.outcomes(opened.run, arm=arm)]

    return asyncio.run(body())


def states(folder: Path, arm: str) -> Counter[str]:
    return Counter(f"{unit.state}/{unit.reason}" for unit in units(folder, arm))


def is_green(folder: Path) -> bool:
    async def body() -> bool:
        async with open_run(folder) as opened:
            return all(f.holds for f in await check_laws(opened.workspace, run=opened.run, plan=opened.plan))

    return asyncio.run(body())


def work(folder: Path, kind: str) -> int:
    with closing(sqlite3.connect(folder / "state" / "ledger.db")) as connection:
        ((number,),) = connection.execute("SELECT count(*) FROM work WHERE key LIKE ?", [f"{kind}_%"])
    return int(number)


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    """A run in bad weather."""
    Weather.is_bad = True
    go(tmp_path)
    Weather.is_bad = False
    return tmp_path


def test_given_up_units_are_written_anew_and_other_arms_stay(failed: Path) -> None:
    before, others, samples = states(failed, "rewrite"), units(failed, "filter"), work(failed, "request")
    assert before["gave_up/still_unsafe"] > 5
    found = redriven(failed, arm="rewrite", reason="still_unsafe")
    assert found.prompts == {"rewrite": before["gave_up/still_unsafe"]}
    assert found.num_units == before["gave_up/still_unsafe"]
    assert is_green(failed), "units that are open again are in flight"

    go(failed)
    assert is_green(failed)
    after = states(failed, "rewrite")
    assert after["corrected/"] == before["corrected/"] + before["gave_up/still_unsafe"]
    assert after["gave_up/still_unsafe"] == 0
    assert Counter(unit.epoch for unit in units(failed, "rewrite")) == {
        0: before.total() - found.num_units, 1: found.num_units
    }  # fmt: skip
    assert units(failed, "filter") == others
    assert work(failed, "request") == samples, "no sample is drawn again"


def test_samples_that_died_are_drawn_again(failed: Path) -> None:
    dead = states(failed, "filter")["not_selected/dead"]
    assert dead > 3
    redriven(failed, arm="filter", reason="dead")
    go(failed)
    assert is_green(failed)
    assert states(failed, "filter")["not_selected/dead"] == 0
    assert states(failed, "rewrite")["gave_up/still_unsafe"] > 5, "the other arm was not asked for"


def test_units_that_were_not_selected_by_decision_stay_as_they_are(failed: Path) -> None:
    """They would only be decided on alike."""
    decided = states(failed, "rewrite")["not_selected/easy"]
    assert decided > 0
    with pytest.raises(SetupError, match="not selected as 'easy' ended as they were meant to") as refused:
        redriven(failed, reason="easy")
    known = str(refused.value).split("nown: ", 1)[1].split(", ")
    assert "easy" not in known
    assert {"dead", "still_unsafe"} <= set(known)
    assert states(failed, "rewrite")["not_selected/easy"] == decided


def test_a_whole_redrive_ends_as_a_run_in_good_weather(failed: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    redriven(failed)
    redriven(failed, reason="dead")  # units that were not selected for want of a sample
    go(failed)
    good = tmp_path_factory.mktemp("good")
    go(good)
    for arm in ("filter", "rewrite"):
        assert states(failed, arm) == states(good, arm)
    assert is_green(failed)


def test_units_that_fail_again_can_be_redriven_again(failed: Path) -> None:
    for epoch in (1, 2):
        Weather.is_bad = epoch == 1
        redriven(failed, arm="rewrite", reason="still_unsafe")
        go(failed)
        assert is_green(failed)
    ended = units(failed, "rewrite")
    assert {unit.epoch for unit in ended} == {0, 2}
    assert not [unit for unit in ended if unit.reason == "still_unsafe"]


def test_what_is_not_there_is_refused_and_a_good_run_has_nothing_to_redrive(tmp_path: Path) -> None:
    go(tmp_path)
    assert redriven(tmp_path).num_units == 0
    with pytest.raises(SetupError, match="did you mean 'rewrite'"):
        redriven(tmp_path, arm="rewrit")
    with pytest.raises(SetupError, match="no unit ended for the reason 'ease'"):
        redriven(tmp_path, reason="ease")


def test_a_purged_prompt_stays_purged(failed: Path) -> None:
    victim = next(unit.unit.prompt for unit in units(failed, "rewrite") if unit.reason == "still_unsafe")
    redriven(failed, arm="rewrite", reason="still_unsafe")

    async def purged() -> None:
        async with open_workspace(failed) as workspace:
            await purge(workspace, victim)

    asyncio.run(purged())
    redriven(failed)
    with pytest.raises(SetupError, match="no unit ended"):
        redriven(failed, reason="purged")
    go(failed)
    assert is_green(failed)
    its = [unit for unit in units(failed, "rewrite") if unit.unit.prompt == victim]
    assert [unit.reason for unit in its] == ["purged"]


def test_units_follow_their_parent_to_other_weights(tmp_path: Path) -> None:
    """The same weights leave them alone; other ones open all of them, once."""
    run = run_small(tmp_path).run
    assert resolve(small_run()).owners.keys() == {"filter", "rewrite"}

    async def follow(workspace: Workspace, model: str) -> int:
        return await follow_parent(workspace, run=run, parent="parent", model=model, arms=["rewrite"])

    async def body() -> list[int]:
        async with open_workspace(tmp_path) as workspace:
            return [await follow(workspace, model) for model in ("one", "one", "two", "two", "one")]

    assert asyncio.run(body()) == [0, 0, 50, 0, 0], "what is open already ends on the new weights anyway"
    assert is_green(tmp_path)
    run_small(tmp_path)
    assert {unit.epoch for unit in units(tmp_path, "rewrite")} == {1}
    assert {unit.epoch for unit in units(tmp_path, "filter")} == {0}
    assert is_green(tmp_path)
