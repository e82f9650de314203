"""An arm that cannot be finished keeps no other from its turn, and is told of at the end and in the report."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yaml
from tests.unit.embedded.small_runs import TEXT, run_small

from tracemend.embedded.looking import open_run
from tracemend.embedded.phases import results_of
from tracemend.embedded.reporting import rewrite_report
from tracemend.embedded.runfile import ArmSettings, parse_run_file
from tracemend.kit.errors import SetupError


def arms(**assemble: object) -> dict[str, ArmSettings]:
    """`a` may have no rows, `b` takes the same rows as `a`, and `filter` and `rewrite` stand alone after both."""
    raw = yaml.safe_load(TEXT)
    both = {
        "a": {"correct": {"strategy": "filter"}, "assemble": assemble},
        "b": {"correct": {"strategy": "filter"}, "assemble": {"rows_of": "a"}},
    }
    settings = parse_run_file(yaml.safe_dump({**raw, "arms": {**both, **raw["arms"]}}, sort_keys=False), name="x.yaml")
    return dict(settings.arms)


def phases(folder: Path) -> set[str]:
    async def read() -> set[str]:
        async with open_run(folder) as opened:
            return set(await results_of(opened.workspace, opened.run))

    return asyncio.run(read())


def unfinished_in(folder: Path) -> list[str]:
    report = json.loads((folder / "report.json").read_text())
    return [each["text"] for each in report["trust"]["warnings"] if each["code"] == "unfinished_arm"]


def test_arms_that_do_not_need_one_without_rows_are_finished_and_the_report_tells(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"arm 'a' has no rows to train on(.|\n)*arm 'b' has to wait for arm a"):
        run_small(tmp_path, arms=arms(reasoning_share=1.0, benign_share=0.0))
    assert {"assemble:filter", "assemble:rewrite"} <= phases(tmp_path)
    assert not {"assemble:a", "assemble:b"} & phases(tmp_path)
    told = unfinished_in(tmp_path)
    assert len(told) == 2
    assert "Arm a is missing here" in told[0]

    async def again() -> None:
        async with open_run(tmp_path) as opened:
            await rewrite_report(opened)

    (tmp_path / "report.json").unlink()
    asyncio.run(again())
    assert unfinished_in(tmp_path) == told


def test_once_it_is_mended_the_same_command_finishes_it(tmp_path: Path) -> None:
    with pytest.raises(SetupError):
        run_small(tmp_path, arms=arms(reasoning_share=1.0, benign_share=0.0))
    finished = run_small(tmp_path, arms=arms())
    assert set(finished.manifests) == {"a", "b", "filter", "rewrite"}
    assert unfinished_in(tmp_path) == []
