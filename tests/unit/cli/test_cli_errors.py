"""What a user gets wrong is told in words that say where and what to change: no traceback, the documented exit code."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.embedded.small_runs import TEXT, run_small

from tracemend.cli.__main__ import main

Arguments = Callable[[Path], list[str]]


def _run(folder: Path, text: str | bytes) -> list[str]:
    path = folder / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return ["run", str(path), "--out", str(folder / "out")]


def _file(folder: Path) -> str:
    path = folder / "file"
    path.write_text("not a folder")
    return str(path)


MISTAKES: dict[str, tuple[Arguments, list[str]]] = {
    "no such run file": (lambda f: ["run", str(f / "no.yaml"), "--out", str(f / "o")], ["no.yaml", "no such run file"]),
    "a folder for a run file": (lambda f: ["run", str(f), "--out", str(f / "o")], ["is a folder"]),
    "not UTF-8": (lambda f: _run(f, b"name: \xff"), ["run.yaml", "UTF-8"]),
    "broken YAML": (lambda f: _run(f, "name: [a\nseed: 1"), ["run.yaml:2", "not valid YAML"]),
    "an empty file": (lambda f: _run(f, ""), ["empty"]),
    "an unknown key": (
        lambda f: _run(f, TEXT.replace("ingestion:", "ingestoin:")),
        ["run.yaml:7", "ingestoin", "did you mean 'ingestion'?"],
    ),
    "an unknown key deep down": (
        lambda f: _run(f, TEXT.replace("strategy: filter", "strategy: filter, teecher: t")),
        ["arms.filter.correct.teecher", "did you mean 'teacher'?"],
    ),
    "an unknown source": (
        lambda f: _run(f, TEXT.replace("source: numbered, count: 40", "source: numberd, count: 40")),
        ["run.yaml:5", "numberd", "did you mean 'numbered'?"],
    ),
    "an unknown judge": (
        lambda f: _run(f, TEXT.replace("harm: {name: last_word}", "harm: {name: last_wrd}")),
        ["last_wrd"],
    ),
    "an arm called base": (
        lambda f: _run(f, TEXT.replace("  filter:", "  base:")),
        ["arms.base", "the target as it is"],
    ),
    "an arm that is a path": (
        lambda f: _run(f, TEXT.replace("  filter:", "  ../filter:")),
        ["arms.../filter", "names folders"],
    ),
    "an arm from an untrained one": (
        lambda f: _run(f, TEXT.replace("  rewrite:", "  rewrite:\n    from: filter")),
        ["arms.rewrite.from", "'filter' has no `train` section"],
    ),
    "a match with no arm": (
        lambda f: _run(f, TEXT.replace("  rewrite:", "  rewrite:\n    assemble: {match: [filtre]}")),
        ["arms.rewrite.assemble.match", "did you mean 'filter'?"],
    ),
    "a match with an arm that starts from it": (
        lambda f: _run(
            f,
            TEXT.replace(
                "{strategy: filter}\n  rewrite:",
                "{strategy: filter}\n    train: {}\n    assemble: {match: [rewrite]}\n  rewrite:\n    from: filter",
            ),
        ),
        ["arms.filter.assemble.match", "'rewrite' starts from what 'filter' trains"],
    ),
    "a sweep without validation": (
        lambda f: _run(f, TEXT.replace("  rewrite:", "  rewrite:\n    train: {sweep: {learning_rate: [1.0e-4]}}")),
        ["arms.rewrite.train.sweep", "evaluate.validation"],
    ),
    "a sweep by no metric": (
        lambda f: _run(
            f,
            TEXT.replace(
                "  rewrite:",
                "  rewrite:\n    train: {sweep: {learning_rate: [1.0e-4], at_most_over_base: {overrefusal: 0.1}}}",
            )
            + "  validation:\n    checked: {prompts: {source: numbered, count: 2, start: 30000}}\n",
        ),
        ["arms.rewrite.train.sweep", "did you mean 'over_refusal'?"],
    ),
    "an unknown strategy": (lambda f: _run(f, TEXT.replace("strategy: filter", "strategy: filtre")), ["filtre"]),
    "a file for a folder": (lambda f: [*_run(f, TEXT)[:3], _file(f)], ["cannot keep a run there"]),
    "an unknown phase": (lambda f: [*_run(f, TEXT), "--from", "smaple"], ["did you mean 'sample'?"]),
    "verify: not a run": (lambda f: ["verify", str(f)], ["holds no run"]),
    "verify: a file": (lambda f: ["verify", _file(f)], ["holds no run"]),
    "failures: nowhere": (lambda f: ["failures", str(f / "nowhere")], ["holds no run"]),
    "report: not a run": (lambda f: ["report", str(f)], ["holds no run"]),
    "trace: not a run": (lambda f: ["trace", str(f), "prompt_x"], ["holds no run"]),
    "export: not a run": (lambda f: ["export", str(f), "base", "--to", str(f / "x")], ["holds no run"]),
    "purge: not a run": (lambda f: ["purge", str(f), "--prompt", "prompt_x"], ["holds no run"]),
    "gc: not a run": (lambda f: ["gc", str(f)], ["holds no run"]),
    "doctor: no folder": (lambda f: ["doctor", str(f / "no")], ["no folder"]),
    "doctor: not a model": (lambda f: ["doctor", str(f)], ["config.json"]),
    "estimate: unknown assumption": (
        lambda f: ["estimate", _run(f, TEXT)[1], "--assume", "respons_tokens=5"],
        ["did you mean 'response_tokens'?"],
    ),
    "estimate: not a number": (
        lambda f: ["estimate", _run(f, TEXT)[1], "--assume", "response_tokens=x"],
        ["NAME=NUMBER"],
    ),
    "calibrate: no such judge": (
        lambda f: ["judge", "calibrate", "last_wrd", "--labels", _labels(f)],
        ["did you mean 'last_word'?"],
    ),
    "calibrate: no such file": (
        lambda f: ["judge", "calibrate", "last_word", "--labels", str(f / "no.jsonl")],
        ["does not exist"],
    ),
    "calibrate: a broken option": (
        lambda f: ["judge", "calibrate", "last_word", "--labels", _labels(f), "--option", "x"],
        ["NAME=VALUE"],
    ),
}


def _labels(folder: Path) -> str:
    path = folder / "labels.jsonl"
    path.write_text('{"prompt": "p", "response": "it is safe", "label": "safe"}\n', encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_words(tmp_path: Path, mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = MISTAKES[mistake]
    with pytest.raises(SystemExit) as ended:
        main(arguments(tmp_path))
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert "Traceback" not in told
    assert all(part in told for part in expected), told


def test_a_ledger_of_a_newer_release_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_small(tmp_path / "out")
    with closing(sqlite3.connect(tmp_path / "out" / "state" / "ledger.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    for arguments in (_run(tmp_path, TEXT), ["verify", str(tmp_path / "out")]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "newer tracemend" in capsys.readouterr().err


def test_a_plan_of_another_release_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_small(tmp_path)
    plan = b'{"name": "small", "a_section_of_long_ago": {}}'
    digest = hashlib.sha256(plan).hexdigest()
    blob = tmp_path / "state" / "blobs" / digest[:2] / digest
    blob.parent.mkdir(exist_ok=True)
    blob.write_bytes(plan)
    with closing(sqlite3.connect(tmp_path / "state" / "ledger.db")) as connection, connection:
        connection.execute("UPDATE runs SET plan = ?", (digest,))
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(tmp_path)])
    assert ended.value.code == 2
    assert "another release" in capsys.readouterr().err


def test_a_place_that_takes_no_files_is_named_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_small(tmp_path)
    (tmp_path / "state" / "lock").unlink(missing_ok=True)
    (tmp_path / "state" / "lock").symlink_to("/sys/kernel/lock")  # nobody, root included, creates files in /sys
    with pytest.raises(SystemExit) as ended:
        main(["gc", str(tmp_path)])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert str(tmp_path / "state" / "lock") in told
    assert "run the command again" in told
