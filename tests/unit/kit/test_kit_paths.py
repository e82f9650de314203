"""A home folder is found or missed by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracemend.kit.errors import SetupError
from tracemend.kit.paths import path_of


def test_a_leading_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert path_of("~/models/one") == Path("/somewhere/models/one")
    assert path_of("runs/~one") == Path("runs/~one")


def test_a_home_folder_that_nobody_has_is_named() -> None:
    with pytest.raises(SetupError, match="no such home folder as '~nobody-of-that-name/rows"):
        path_of("~nobody-of-that-name/rows.jsonl")
