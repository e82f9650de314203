"""`tracemend judge cues` measures a detector and says what it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tracemend.cli.__main__ import main

ROWS = [
    {"prompt": "p0", "reasoning": "They ask. Let me outline the steps. Done.", "step": 2},
    {"prompt": "p1", "reasoning": "They ask. It has a lid. Here is how it goes.", "step": 2},
    {"prompt": "p2", "reasoning": "They ask. That could hurt people.", "step": 0},
]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(("judge", *arguments))
    assert (ended.value.code or 0) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


def test_a_detector_is_measured_against_labels(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = json.loads(said(capsys, "cues", "rule_cue", "--labels", str(labels), "--json"))
    assert found["detector"].startswith("rule_cue:")
    assert (found["num_rows"], found["num_unknown"]) == (3, 0)
    shares = {name: found[name]["value"] for name in ("agreement", "within_one", "found", "no_cue")}
    assert shares == {"agreement": pytest.approx(2 / 3), "within_one": 1.0, "found": 1.0, "no_cue": 1.0}
    assert "at most one sentence off" in said(capsys, "cues", "rule_cue", "--labels", str(labels))


def test_options_reach_the_detector(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    option = ("--option", "extra=[it has a lid]")
    found = json.loads(said(capsys, "cues", "rule_cue", "--labels", str(labels), *option, "--json"))
    assert found["agreement"]["value"] == 1.0


def test_detectors_are_listed_beside_judges(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"llm_cue", "rule_cue", "last_word"} <= json.loads(said(capsys, "list", "--json")).keys()


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (("rule_que",), "did you mean 'rule_cue'?"),
        (("llm_cue",), "needs `model`"),
        (("llm_cue", "--model", "m"), "unknown model 'm'"),
        (("rule_cue", "--column", "steps=x"), "it may map prompt, reasoning, step"),
    ],
)
def test_mistakes_are_told_with_the_remedy(
    labels: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], needle: str
) -> None:
    assert needle in " ".join(said(capsys, "cues", *arguments, "--labels", str(labels), code=2).split())
