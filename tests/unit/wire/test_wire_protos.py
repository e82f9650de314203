"""The committed generated code is what the protos say, and drift is told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "protos" / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_committed_code_is_current() -> None:
    checked = generate("--check")
    assert checked.returncode == 0, checked.stderr


def test_changed_missing_and_left_over_files_are_told_and_generating_mends_them(tmp_path: Path) -> None:
    api = tmp_path / "tracemend" / "api"
    shutil.copytree(ROOT / "shared" / "tracemend" / "api", api, ignore=shutil.ignore_patterns("__pycache__"))
    (api / "records" / "v1" / "records_pb2.py").write_text("changed")
    (api / "events" / "v1" / "envelope_pb2.pyi").unlink()
    (api / "left_over_pb2.py").write_text("")
    checked = generate("--check", "--out", str(tmp_path))
    assert checked.returncode == 1
    for name in ("records_pb2.py", "envelope_pb2.pyi", "left_over_pb2.py", "python protos/generate.py"):
        assert name in checked.stderr
    assert generate("--out", str(tmp_path)).returncode == 0
    assert generate("--check", "--out", str(tmp_path)).returncode == 0
