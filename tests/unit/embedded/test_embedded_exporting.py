"""What is handed over never takes the place of the run that it comes from."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.embedded.small_runs import run_small

from tracemend.embedded.exporting import export
from tracemend.embedded.looking import open_run
from tracemend.kit.errors import SetupError


def test_force_does_not_replace_the_run_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "one"
    run_small(folder)
    monkeypatch.chdir(folder)

    async def exported(to: Path) -> None:
        async with open_run(folder) as opened:
            await export(opened, "rewrite", to=to, what="dataset", force=True)

    for to in (folder, folder.parent, Path("."), folder / "datasets" / ".."):
        with pytest.raises(SetupError, match="holds the run itself"):
            asyncio.run(exported(to))
    asyncio.run(exported(folder / "handed-over"))
    assert (folder / "state" / "ledger.db").is_file()
