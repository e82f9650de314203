"""Prompt sets whose place the environment knows: filled in when they are read, and never in what is stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tracemend.embedded.plan import resolve
from tracemend.embedded.runfile import parse_run_file
from tracemend.embedded.sourcing import read
from tracemend.ingestion.rows import Row
from tracemend.ingestion.settings import PromptsSettings
from tracemend.kit.errors import SetupError

RUN = """
name: small
prompts: [{source: jsonl, category: benign, path: "${A_FOLDER}/a.jsonl"}]
target: {model: m, engine: "openai:m@http://h/v1"}
judge: {harm: {name: last_word}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": f"make bread {name}"}) + "\n", encoding="utf-8")
    monkeypatch.setenv("A_FOLDER", str(tmp_path))
    return tmp_path


def words_of(**options: object) -> list[str]:
    item = PromptsSettings.model_validate({"source": "jsonl", "category": "benign", **options})
    rows = list(read([item]))
    return [row.text.reveal() for row in rows if isinstance(row, Row)]


def test_a_path_and_every_path_of_a_list_is_filled_in(folder: Path) -> None:
    assert words_of(path="${A_FOLDER}/a.jsonl") == ["make bread a"]
    assert words_of(path=["${A_FOLDER}/b.jsonl", str(folder / "a.jsonl")]) == ["make bread b", "make bread a"]


def test_the_plan_keeps_the_name(folder: Path) -> None:
    plan = resolve(parse_run_file(RUN, name="run.yaml"))
    assert [row.category.value for row in read(plan.run.prompts) if isinstance(row, Row)] == ["benign"]
    assert b"${A_FOLDER}/a.jsonl" in plan.content
    assert str(folder).encode() not in plan.content


def test_a_variable_that_is_unset_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_FOLDER", raising=False)
    with pytest.raises(SetupError, match="prompts: path: set the environment variable A_FOLDER"):
        words_of(path="${A_FOLDER}/a.jsonl")
