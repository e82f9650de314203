"""`tracemend doctor` on small real folders: what it finds out with and without weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.contract.tiny_models import build

from tracemend.cli.__main__ import main


def examined(capsys: pytest.CaptureFixture[str], folder: Path, *more: str, code: int) -> dict[str, dict[str, Any]]:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(folder), "--max-new-tokens", "16", "--json", *more])
    assert (ended.value.code or 0) == code
    return {check["what"]: check for check in json.loads(capsys.readouterr().out)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("doctor") / "model")


def test_a_model_that_never_closes_its_reasoning_is_told(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Random weights write words without end or tags: what is fine of the folder is fine, the samples are not."""
    checks = examined(capsys, model, code=2)
    assert all(checks[what]["holds"] for what in ("shape", "template", "end token", "weights"))
    assert not checks["reasoning"]["holds"]
    assert "try another --reasoning-format" in checks["reasoning"]["detail"]


def test_without_weights_the_folder_alone_is_examined(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = Path(shutil.copytree(model, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors")))
    checks = examined(capsys, bare, code=2)
    assert checks["template"]["holds"]
    assert "no weights" in checks["weights"]["detail"]
    assert "not drawn" in checks["samples"]["detail"]


def test_an_end_token_that_other_servers_would_not_stop_at_is_told(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Path(shutil.copytree(model, tmp_path / "wrong"))
    path = wrong / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": 7}))
    checks = examined(capsys, wrong, code=2)
    assert "eos_token_id" in checks["end token"]["detail"]


def test_prompts_of_ones_own_are_read_from_a_file(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("how do I make bread?\n\nwhat is six times seven?\n", encoding="utf-8")
    checks = examined(capsys, model, "--prompts", str(path), code=2)
    assert "of 2" in checks["ends by itself"]["detail"]
