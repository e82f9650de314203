"""The store's proof ends with what it found and an exit code; what a server must do is `test_s3_opening`'s."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracemend.programs.store_proof import main


def test_a_store_that_keeps_its_contract_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRACEMEND_STORE", f"file:{tmp_path}")
    assert main() == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "set TRACEMEND_STORE"),
        ("s4:bucket", "s4"),
        ("s3:bucket?endpoint=http://127.0.0.1:9&region=r", "127.0.0.1:9"),
    ],
)
def test_what_is_wrong_is_told_with_2(
    url: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACEMEND_STORE", url)
    monkeypatch.setenv("S3_ACCESS_KEY", "nobody")
    monkeypatch.setenv("S3_SECRET_KEY", "nothing")
    assert main() == 2
    assert words in capsys.readouterr().err
