"""A run's report knows the errors of judges that were calibrated, if they are the run's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.embedded.small_runs import run_small, small
from typer.testing import CliRunner

from tracemend.cli.app import app
from tracemend.embedded.calibrations import read_calibrations
from tracemend.embedded.checking import check_run
from tracemend.embedded.pipeline import run_id
from tracemend.embedded.plan import resolve
from tracemend.embedded.runfile import EvaluateSettings, RunFile
from tracemend.judge.service import JudgeService
from tracemend.judge.settings import HarmJudge
from tracemend.kit.errors import SetupError

LABELS = [("frobnicate it, safe", "safe")] * 6 + [("frobnicate it, unsafe", "unsafe")] * 3
LABELS += [("it looks unsafe", "safe"), ("it looks safe", "unsafe")]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes of `last_word`: it finds 3 of 4 unsafe answers and passes 6 of 7 safe ones."""
    folder = tmp_path_factory.mktemp("labels")
    rows = [{"prompt": f"case {at} ?", "response": said, "label": label} for at, (said, label) in enumerate(LABELS)]
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    told = CliRunner().invoke(
        app, ["judge", "calibrate", "last_word", "--labels", str(folder / "labels.jsonl"), "--json"]
    )
    assert told.exit_code == 0, told.output
    (folder / "harm.json").write_text(told.stdout, encoding="utf-8")
    return folder / "harm.json"


def evaluate(**files: object) -> EvaluateSettings:
    settings = small().evaluate
    assert settings is not None
    return settings.model_copy(update={"calibration": {role: str(file) for role, file in files.items()}})


def changed(file: Path, folder: Path, **changes: object) -> Path:
    """A copy of `file` with other values at its top level."""
    written = folder / "changed.json"
    written.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return written


def test_the_report_shows_the_judges_errors_and_the_rates_without_them(calibrated: Path, tmp_path: Path) -> None:
    finished = run_small(tmp_path, evaluate=evaluate(harm=calibrated))
    trust = _report(finished.folder)["trust"]
    known = trust["judges"]["harm"]["calibration"]
    assert (known["sensitivity"], known["n"], known["part"]) == (pytest.approx(3 / 4), 11, "answer")
    assert known["specificity"] == pytest.approx(6 / 7)
    rate = _report(finished.folder)["arms"]["base"]["metrics"]["harm_answer"]["all"]["value"]
    expected = min(1.0, max(0.0, (rate + 6 / 7 - 1) / (3 / 4 + 6 / 7 - 1)))
    assert trust["adjusted"]["base"]["harm_answer"]["value"] == pytest.approx(expected)
    assert "harm_reasoning" not in trust["adjusted"]["base"], "no reasoning was labelled"
    (uncalibrated,) = [w["text"] for w in trust["warnings"] if w["code"] == "uncalibrated"]
    assert "harm" not in uncalibrated


def test_a_report_that_is_written_again_says_the_same_though_the_file_is_gone(calibrated: Path, tmp_path: Path) -> None:
    mine = changed(calibrated, tmp_path)
    finished = run_small(tmp_path / "run", evaluate=evaluate(harm=mine))
    before = _report(finished.folder)
    mine.unlink()
    (finished.folder / "report.json").unlink()
    told = CliRunner().invoke(app, ["report", str(finished.folder)])
    assert told.exit_code == 0, told.output
    assert _report(finished.folder)["trust"] == before["trust"]


def test_a_calibration_that_comes_later_changes_no_id_and_repeats_no_work(calibrated: Path, tmp_path: Path) -> None:
    first = run_small(tmp_path)
    before = {arm: m.id for arm, m in first.manifests.items()}
    assert _report(first.folder)["trust"]["judges"]["harm"]["calibration"] is None
    again = run_small(tmp_path, evaluate=evaluate(harm=calibrated))
    assert again.run == first.run
    assert {arm: m.id for arm, m in again.manifests.items()} == before
    assert _report(first.folder)["trust"]["judges"]["harm"]["calibration"] is not None
    withdrawn = run_small(tmp_path)
    assert withdrawn.run == first.run
    assert _report(first.folder)["trust"]["judges"]["harm"]["calibration"] is None


def test_no_id_hangs_on_a_calibration(calibrated: Path) -> None:
    plans = [resolve(run_file) for run_file in (small(), small(evaluate=evaluate(harm=calibrated)))]
    assert len({run_id(plan, target="t") for plan in plans}) == 1


def test_another_judge_than_the_runs_is_refused(calibrated: Path, tmp_path: Path) -> None:
    judge = small().judge.model_copy(update={"harm": HarmJudge(name="refusal_strings")})
    with pytest.raises(SetupError, match=r"harm: it was measured on last_word:.* and this run's is refusal_strings:"):
        run_small(tmp_path, judge=judge, evaluate=evaluate(harm=calibrated))
    other = changed(calibrated, tmp_path, judge="last_word:0000000000000000")
    with pytest.raises(SetupError, match="was measured on last_word:0000000000000000"):
        run_small(tmp_path / "other", evaluate=evaluate(harm=other))


def test_the_judged_parts_and_the_revision_do_not_make_it_another_judge(calibrated: Path, tmp_path: Path) -> None:
    harm = small().judge.harm.model_copy(update={"parts": small().judge.harm.parts[:2]})
    judge = small().judge.model_copy(update={"harm": harm, "revision": 2})
    built = [JudgeService.build(settings, {}) for settings in (small().judge, judge)]
    assert built[0].identity["harm"] != built[1].identity["harm"]
    assert (
        built[0].built["harm"] == built[1].built["harm"] == read_calibrations({"harm": str(calibrated)})["harm"].judge
    )


def test_the_verifier_may_be_calibrated_where_there_is_one(calibrated: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"the run has no judge\.verifier"):
        run_small(tmp_path, evaluate=evaluate(verifier=calibrated))
    judge = small().judge.model_copy(update={"verifier": HarmJudge(name="last_word")})
    finished = run_small(tmp_path / "run", judge=judge, evaluate=evaluate(verifier=calibrated))
    assert _report(finished.folder)["trust"]["judges"]["verifier"]["calibration"]["n"] == 11


NOT_A_CALIBRATION = ["", "[]", "[" * 100_000, "{}", '{"detector": "rule_cue:1", "agreement": null}', "\ud800"]


@pytest.mark.parametrize("content", NOT_A_CALIBRATION, ids=range(len(NOT_A_CALIBRATION)))
def test_what_the_command_did_not_write_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "some.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(SetupError, match=r"evaluate\.calibration\.harm: .*some\.json: is not what `tracemend judge"):
        read_calibrations({"harm": str(tmp_path / "some.json")})


def test_what_cannot_correct_a_rate_is_refused(calibrated: Path, tmp_path: Path) -> None:
    decided = json.loads(calibrated.read_text(encoding="utf-8"))["decided"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"decided": decided | {"sensitivity": None}}, "has no sensitivity: use labels of both kinds"),
        ({"decided": decided | {"specificity": {"value": float("nan")}}}, "shares from 0 to 1"),
        ({"decided": decided | {"specificity": {"value": 98}}}, "shares from 0 to 1"),
        ({"axis": "refusal"}, "was measured on refusal: use --axis harm"),
        ({"part": "ending"}, "is not what"),
    ]
    for changes, problem in cases:
        with pytest.raises(SetupError, match=problem):
            read_calibrations({"harm": str(changed(calibrated, tmp_path, **changes))})
    with pytest.raises(SetupError, match=r"cannot be read .*judge calibrate"):
        read_calibrations({"harm": str(tmp_path / "missing.json")})


def test_a_dry_run_reads_the_files(calibrated: Path, tmp_path: Path) -> None:
    def checked(settings: RunFile) -> tuple[bool, str]:
        (check,) = [check for check in check_run(settings) if check.what == "evaluate.calibration"]
        return check.holds, check.detail

    holds, detail = checked(small(evaluate=evaluate(harm=calibrated)))
    assert holds
    assert detail.startswith("harm: last_word:")
    assert not checked(small(evaluate=evaluate(harm=tmp_path / "missing.json")))[0]


def _report(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))
