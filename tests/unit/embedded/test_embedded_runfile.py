"""A run file that is wrong is refused with its line and what to change."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.embedded.small_runs import TEXT, run_small, small

from tracemend.embedded.checking import check_run
from tracemend.embedded.runfile import load_run_file, parse_run_file
from tracemend.kit.errors import SetupError

MODEL = '  teacher: {engine: "scripted:null_teacher"}'
FILTER = "    correct: {strategy: filter}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  rewrite:", "  filter:", r"^run\.yaml:17: key 'filter' is there already, in line 15"),
        ("count: 40", "count: 40, count: 50", r"^run\.yaml:5: key 'count' is there already, in line 5"),
        ("teacher: teacher}", "teacher: teachr}", r"^run\.yaml:18: arms\.rewrite\.correct: no model 'teachr'"),
        (FILTER, f"{FILTER}\n    from: rewrit", r"^run\.yaml:17: arms\.filter\.from: .* did you mean 'rewrite'"),
        ("  filter:\n", "  3:\n", r"^run\.yaml:15: arms\.3: YAML reads this name as a number .* quotes"),
        (MODEL, "  m: {engine: 'scripted:echo', options: &a {again: *a}}", r"^run\.yaml:3: .*recursive"),
        ("name: small", "name: " + "[" * 20_000, "nested too deeply"),
        ("name: small", "name: small\nprofile: 2024-13-45", "not valid YAML: month must be"),
        ("name: small", "name: small\0", "not valid YAML: unacceptable character"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(SetupError, match=message):
        parse_run_file(TEXT.replace(old, new), name="run.yaml")


def test_an_alias_is_no_repetition() -> None:
    text = TEXT.replace("{strategy: filter}", "&section {strategy: filter}")
    text = text.replace("  rewrite:\n", "  again:\n    correct: *section\n  rewrite:\n")
    assert {"filter", "again", "rewrite"} == parse_run_file(text, name="run.yaml").arms.keys()


def test_a_folder_and_a_file_in_another_encoding_are_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="is a folder; name the run file"):
        load_run_file(tmp_path)
    (tmp_path / "run.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(SetupError, match=r"not UTF-8 \(byte 9\)"):
        load_run_file(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("scriptd:null_target", {}, "did you mean 'scripted'?"),
        ("scripted:null_traget", {}, "did you mean 'null_target'?"),
        ("scripted:null_target", {"delay": 1}, "'delay'"),
        ("openai:m@127.0.0.1", {}, "openai:MODEL@http"),
        ("transformers", {"max_bach": 3}, "did you mean 'max_batch'?"),
        ("vllm", {"max_bach": 3}, "did you mean 'max_batch'?"),
    ],
)
def test_a_dry_run_looks_at_the_targets_engine_and_its_options(engine: str, options: dict, message: str) -> None:
    run = small()
    target = run.target.model_copy(update={"engine": engine, "engine_options": options, "model": "proving:base"})
    (problem,) = [check for check in check_run(run.model_copy(update={"target": target})) if not check.holds]
    assert problem.what == "target"
    assert message in problem.detail


def test_a_run_that_asks_for_nothing_says_so_and_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"asks for nothing: add `arms`.*`evaluate`"):
        run_small(tmp_path / "out", arms={}, evaluate=None)
    assert not (tmp_path / "out").exists()
    (problem,) = [check for check in check_run(small(arms={}, evaluate=None)) if not check.holds]
    assert "asks for nothing" in problem.detail
