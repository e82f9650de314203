"""A whole run with a detector and a verifier: cues rest on verdicts, mended text has its own judge, both are told."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.embedded.small_runs import run_small, small
from typer.testing import CliRunner

from tracemend.cli.app import app
from tracemend.embedded.pipeline import Finished
from tracemend.embedded.workspace import open_workspace
from tracemend.judge.settings import DetectorChoice, HarmJudge
from tracemend.records import Outcome, OutcomeState

DETECTOR = DetectorChoice(name="rule_cue", options={"extra": ["then weigh"]})
VERIFIER = HarmJudge.model_validate({"name": "panel", "members": [{"name": "last_word"}, {"name": "last_word"}]})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    judge = small().judge.model_copy(update={"detector": DETECTOR, "verifier": VERIFIER})
    return run_small(tmp_path_factory.mktemp("roles") / "run", judge=judge)


@pytest.fixture(scope="module")
def corrected(finished: Finished) -> list[Outcome]:
    async def body() -> list[Outcome]:
        found = []
        async with open_workspace(finished.folder, writes=False) as workspace:
            async for unit in workspace.ledger.outcomes(finished.run, arm="rewrite"):
                ((_, outcome),) = await workspace.results.read(unit.address)
                found.append(outcome)
        return [outcome for outcome in found if outcome.state is OutcomeState.CORRECTED]

    return asyncio.run(body())


def test_an_unsafe_sample_carries_its_cue_and_a_safe_rewrite_none(corrected: list[Outcome]) -> None:
    assert corrected
    steps = set()
    for outcome in corrected:
        assert outcome.original is not None
        assert outcome.final is not None
        cue = outcome.original.cue
        assert cue is not None
        assert cue.detector.startswith("rule_cue:")
        assert cue.token == -1  # the engine of this run knows no ids
        turning = outcome.original.trajectory.reasoning.reveal()[cue.char :].split(".")[0]
        assert cue.step == 0 or "then weigh" in turning
        steps.add(cue.step)
        assert outcome.final.cue is None
    assert len(steps) > 1


def test_the_verifier_accepts_and_the_judge_of_harm_does_not(corrected: list[Outcome]) -> None:
    judges = {(o.original.reasoning.judge.split(":")[0], o.final.reasoning.judge.split(":")[0])
              for o in corrected if o.original and o.final}  # fmt: skip
    assert judges == {("last_word", "panel")}


def test_dataset_and_report_name_every_role(finished: Finished) -> None:
    judges = finished.manifests["rewrite"].judges
    assert {"harm", "detector", "verifier"} <= judges.keys()
    report = json.loads((finished.folder / "report.json").read_text(encoding="utf-8"))
    assert report["trust"]["judges"]["verifier"]["identity"] == judges["verifier"]
    codes = {warning["code"] for warning in report["trust"]["warnings"]}
    assert not codes & {"same_verifier", "same_model"}


def test_card_and_appendix_call_every_role_what_it_is(finished: Finished) -> None:
    judges = finished.manifests["rewrite"].judges
    card = (finished.folder / "datasets" / "rewrite" / "README.md").read_text(encoding="utf-8")
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    names = {"harm": "judge of harm", "detector": "detector of compliance cues"}
    for role, name in (names | {"verifier": "verifier of what was mended"}).items():
        assert f"- {name}: `{judges[role]}`" in card
        assert f"<dt>{name}</dt><dd><code>{judges[role]}</code></dd>" in page
    assert all(f"judge of {role}" not in text for role in ("detector", "verifier") for text in (card, page))


@pytest.mark.parametrize("is_of_an_earlier_build", [False, True])
def test_a_report_that_is_written_again_names_the_roles_without_any_dataset(
    tmp_path: Path, is_of_an_earlier_build: bool
) -> None:
    judge = small().judge.model_copy(update={"detector": DETECTOR, "verifier": VERIFIER})
    folder = run_small(tmp_path / "run", judge=judge, arms={}).folder
    before = json.loads((folder / "report.json").read_text(encoding="utf-8"))["digests"]["judges"]
    assert {"harm", "refusal", "correctness", "detector", "verifier"} == before.keys()
    if is_of_an_earlier_build:
        with closing(sqlite3.connect(folder / "state" / "ledger.db")) as ledger, ledger:
            assert ledger.execute("DELETE FROM phases WHERE name = 'judges'").rowcount == 1
        # Nothing was mended or measured on correctness: nobody noted who would have judged it.
        before = {role: before[role] for role in ("harm", "refusal", "detector")}
    told = CliRunner().invoke(app, ["report", str(folder)])
    assert told.exit_code == 0, told.output
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["digests"]["judges"] == before
