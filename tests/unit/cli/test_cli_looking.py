"""The commands that look at a run print what is stored, hide text unless asked, and never obey it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.embedded.small_runs import TEXT, run_small

from tracemend.adapters.scripted.null_teacher import null_teacher
from tracemend.adapters.scripts import last_user_message, scripts
from tracemend.cli.__main__ import main
from tracemend.cli.showing import inert
from tracemend.embedded.runfile import parse_run_file
from tracemend.kit.ports import Completion, ModelRequest
from tracemend.redaction import Text
from tracemend.trainer import dataset


@scripts.register
def sometimes_unsafe() -> Callable[[ModelRequest], Completion]:
    """`null_teacher`, whose texts on one of three prompts stay unsafe."""
    writes = null_teacher()

    def complete(request: ModelRequest) -> Completion:
        written = writes(request)
        number = re.search(r"number (\d+)", last_user_message(request))
        assert number is not None
        if int(number[1]) % 3:
            return written
        return replace(written, text=Text(written.text.reveal().replace("is safe.", "is unsafe.")))

    return complete


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    run_small(folder)
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert (ended.value.code or 0) == code
    return capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    return json.loads(said(capsys, *arguments, "--json", code=code))


def a_row(folder: Path) -> Any:
    return dataset.read_examples(folder / "datasets" / "rewrite")[0]


def test_a_story_holds_samples_rewrites_outcomes_and_where_it_was_published(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = dataset.read_examples(finished / "datasets" / "rewrite")
    row = next(row for row in rows if row.state == "corrected")
    story = told(capsys, "trace", str(finished), row.prompt.id)
    assert story["prompt"]["id"] == row.prompt.id
    assert [verdict["trajectory"]["sample"] for verdict in story["samples"]] == [0, 1]
    assert [verdict["trajectory"]["intervention"]["strategy"] for verdict in story["rewrites"]] == ["rewrite"]
    assert {o["unit"]["arm"]: o["state"] for o in story["outcomes"]} == {
        "filter": "not_selected",
        "rewrite": "corrected",
    }
    assert [(p["arm"], p["row"]) for p in story["published"]] == [("rewrite", story["published"][0]["row"])]
    assert story["num_open"] == 0


def test_a_story_is_found_from_any_id_and_from_a_beginning(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = a_row(finished)
    story = told(capsys, "trace", str(finished), row.prompt.id)
    sample, outcome = story["samples"][0], story["outcomes"][0]
    for wanted in (sample["id"], sample["trajectory"]["id"], outcome["id"], row.id, row.prompt.id[:20]):
        assert told(capsys, "trace", str(finished), wanted)["prompt"]["id"] == row.prompt.id
    said(capsys, "trace", str(finished), "prompt_", code=2)
    said(capsys, "trace", str(finished), "nothing", code=2)


def test_text_is_shown_only_when_asked_for(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = a_row(finished)
    words = row.prompt.text.reveal()
    for flags in ((), ("--json",)):
        assert words not in said(capsys, "trace", str(finished), row.prompt.id, *flags)
        assert words in said(capsys, "trace", str(finished), row.prompt.id, "--show-text", *flags)


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jcleared", "cleared"),
        ("a\rb\x08c", "a\ufffdb\ufffdc"),
        ("left\u202eright", "left\ufffdright"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)
def test_text_cannot_steer_the_terminal(hostile: str, harmless: str) -> None:
    assert inert(hostile) == harmless


def test_the_report_can_be_written_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    (finished / "report.json").unlink()
    (finished / "report.html").unlink()
    again = told(capsys, "report", str(finished))
    assert Path(again["report"]).is_file()
    second = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    assert second["arms"] == first["arms"]
    assert second["funnel"] == first["funnel"]
    headline = said(capsys, "report", str(finished))
    assert "harm reasoning" in headline
    assert f"{100 * first['arms']['base']['metrics']['harm_reasoning']['all']['value']:.0f} [" in headline


def test_a_dataset_is_exported_once_and_replaced_only_by_force(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "out"
    arguments = ("export", str(finished), "rewrite", "--what", "dataset", "--to", str(to))
    assert told(capsys, *arguments)["identity"] == dataset.read_manifest(to).digest
    assert dataset.read_examples(to) == dataset.read_examples(finished / "datasets" / "rewrite")
    said(capsys, *arguments, code=2)
    said(capsys, *arguments, "--force")
    said(capsys, "export", str(finished), "rewrite", "--to", str(tmp_path / "model"), code=2)
    said(capsys, "export", str(finished), "rewrit", "--to", str(tmp_path / "model"), code=2)
    assert not (tmp_path / "model").exists()


def test_a_dry_run_checks_and_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "run.yaml", tmp_path / "out"
    path.write_text(TEXT, encoding="utf-8")
    checks = told(capsys, "run", str(path), "--out", str(out), "--dry-run")
    assert all(check["holds"] for check in checks)
    assert {"target", "judge", "arms", "models.teacher", "evaluate.heldout (numbered)"} <= {c["what"] for c in checks}
    assert not out.exists()


def test_a_dry_run_names_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    broken = TEXT.replace("{source: numbered, count: 40}", "{source: jsonl, path: no.jsonl}")
    broken = broken.replace('model: "null", engine: "scripted:null_target"', 'model: "/no/model", engine: transformers')
    path.write_text(broken.replace("strategy: rewrite, teacher: teacher", "strategy: rewrite"), encoding="utf-8")
    checks = told(capsys, "run", str(path), "--out", str(tmp_path / "out"), "--dry-run", code=2)
    assert [check["what"] for check in checks if not check["holds"]] == ["prompts.0 (jsonl)", "target", "arms"]


def test_an_estimate_follows_the_formula(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(TEXT, encoding="utf-8")
    given = ("prompt_tokens=10", "response_tokens=90", "teacher_tokens=100", "hard_share=0.5", "unsafe_share=0.5")
    assumed = [part for name in given for part in ("--assume", name)]
    found = told(capsys, "estimate", str(path), *assumed)
    steps = {item["what"]: (item["num_calls"], item["num_tokens"]) for item in found["items"]}
    assert found["prompts"] == {"0 (numbered)": 40, "1 (numbered)": 10}
    assert steps["sample"] == (100, 100 * (10 + 90))
    assert steps["correct"] == (30, 30 * (10 + 90 + 100)), "20 hard prompts, one unit each, 1.5 attempts"
    assert steps["evaluate"] == (16, 16 * 100)
    assert found["total"]["num_tokens"] == sum(tokens for _, tokens in steps.values())


def test_what_an_estimate_cannot_count_is_named_with_what_to_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    lost = f"{{source: jsonl, category: harmful, path: {tmp_path / 'absent.jsonl'}}}"
    path.write_text(TEXT.replace("{source: numbered, count: 40}", lost), encoding="utf-8")
    found = told(capsys, "estimate", str(path))
    assert found["prompts"] == {"0 (jsonl)": None, "1 (numbered)": 10}
    assert list(found["uncounted"]) == ["prompts.0 (jsonl)"]
    assert "absent.jsonl" in found["uncounted"]["prompts.0 (jsonl)"]
    printed = said(capsys, "estimate", str(path))
    assert "every figure below leaves it out" in printed
    assert "total, at least" in printed


def test_redriving_says_what_is_open_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    text = TEXT.replace("scripted:null_teacher", "scripted:test_cli_looking")
    run_small(folder, models=parse_run_file(text, name="run.yaml").models)
    [gave_up] = [f for f in told(capsys, "failures", str(folder)) if f["state"] == "gave_up"]
    opened = told(capsys, "redrive", str(folder), "--arm", "rewrite", "--reason", gave_up["reason"])
    number, reason = gave_up["number"], f"gave_up/{gave_up['reason']}"
    assert opened == {"prompts": {"rewrite": number}, "num_units": number, "reasons": {reason: number}}
    assert gave_up["reason"] not in {failure["reason"] for failure in told(capsys, "failures", str(folder))}
    assert f"{number} prompts have units that have not ended" in said(capsys, "failures", str(folder))
    told(capsys, "verify", str(folder))


def test_a_good_run_has_nothing_to_redrive(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    assert "Nothing to redrive" in said(capsys, "redrive", str(folder))
    said(capsys, "redrive", str(folder), "--reason", "easy", code=2)
    said(capsys, "redrive", str(folder), "--reason", "eesy", code=2)


def test_judges_are_listed_and_calibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "last_word" in told(capsys, "judge", "list")
    path = tmp_path / "labels.jsonl"
    rows = [("it is safe", "fine"), ("it is unsafe", "bad"), ("it is safe", "bad"), ("no idea", "fine")]
    lines = [json.dumps({"prompt": f"p{n}", "response": text, "label": word}) for n, (text, word) in enumerate(rows)]
    path.write_text("\n".join(lines), encoding="utf-8")
    words = ("--word", "fine=safe", "--word", "bad=unsafe")
    found = told(capsys, "judge", "calibrate", "last_word", "--labels", str(path), *words)
    assert (found["num_rows"], found["num_unknown"]) == (4, 1)
    assert found["decided"]["sensitivity"]["value"] == 0.5
    assert found["decided"]["specificity"]["value"] == 1.0
    assert "sensitivity" in said(capsys, "judge", "calibrate", "last_word", "--labels", str(path), *words)
