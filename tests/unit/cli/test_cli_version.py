"""`tracemend --version`."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from tracemend.cli.__main__ import main


@pytest.mark.parametrize("arguments", [["--version"], ["--version", "verify", "nowhere"]])
def test_the_version_is_the_distributions_and_nothing_else_is_done(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert not left.value.code
    assert capsys.readouterr().out == f"tracemend {version('tracemend')}\n"
