"""The smoke test for real weights, on a CPU with a small model: it checks first, runs all of it, and goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.pipeline import served_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smoke") / "model"
    return served_model.small_model(folder, cache=tmp_path_factory.getbasetemp() / "models")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    kinds = ("harmful", "benign", "benign", "harmful")
    rows = [{"text": f"how is loaf {n} of town {n * 7 % 13} made ?", "category": kinds[n % 4]} for n in range(48)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def smoke(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRACEMEND_DATA"}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.smoke_gpu", "--engine", "transformers", *map(str, arguments)],
        cwd=ROOT,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_it_runs_to_the_end_and_again_from_there(model: Path, prompts: Path, tmp_path: Path) -> None:
    arguments = ("--model", model, "--prompts", prompts, "--out", tmp_path / "out", "--max-new-tokens", "96")
    first = smoke(*arguments)
    assert first.returncode == 0, first.stderr
    assert "NOT" not in first.stdout
    for said in ("smoke: kept", "generator:", "judge:", "trained smoke:", "rows received = refused + admitted (36)"):
        assert said in first.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert {"base", "smoke"} <= set(report["arms"])
    again = smoke(*arguments)
    assert again.returncode == 0, again.stderr
    assert "by an earlier process" in again.stdout


def test_a_dry_run_checks_and_opens_nothing(model: Path, prompts: Path, tmp_path: Path) -> None:
    done = smoke(
        "--model", model, "--prompts", prompts, "--out", tmp_path / "out", "--dry-run", "--max-new-tokens", "96"
    )
    assert done.returncode == 0, done.stderr
    assert "ok  target" in done.stdout
    assert not (tmp_path / "out" / "state").exists()


def test_what_is_missing_is_said_before_anything_runs(model: Path, prompts: Path, tmp_path: Path) -> None:
    without = smoke("--model", model, "--out", tmp_path / "out")
    assert without.returncode == 2
    assert "TRACEMEND_DATA" in without.stderr
    elsewhere = smoke("--model", tmp_path / "none", "--prompts", prompts, "--out", tmp_path / "out")
    assert elsewhere.returncode == 2
    assert "NOT target: no model folder" in elsewhere.stdout
    too_long = smoke("--model", model, "--prompts", prompts, "--out", tmp_path / "out", "--max-new-tokens", "5000")
    assert too_long.returncode == 2
    assert "context" in too_long.stdout
    for done in (without, elsewhere, too_long):
        assert "Traceback" not in done.stderr
