"""The commands against a real ingestion server: what they print and how they exit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from tests import builders
from tests.ingestion_server import FakePlans, Served, ingestion

from tracemend.cli.__main__ import main
from tracemend.client import AsyncClient
from tracemend.ingestion.needs import CheckedPlan
from tracemend.ingestion.uploaded import uploaded_rows
from tracemend.kit.run_states import RunState

RUN_FILE = {
    "name": "small",
    "target": {"model": "null", "engine": "scripted:null_target"},
    "judge": {"harm": {"name": "refusal_strings"}},
}


def run_file(folder: Path, *lines: str) -> Path:
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    prompts = [{"source": "jsonl", "path": str(folder / "prompts.jsonl"), "category": "benign"}]
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**RUN_FILE, "prompts": prompts}))
    return path


async def command(served: Served, *arguments: str) -> int:
    """Run it in a thread, as a process of its own would; its exit code."""

    def body() -> int:
        try:
            main([*arguments, "--to", served.address])
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return await asyncio.to_thread(body)


class AnyPlan(FakePlans):
    """Takes any run file's plan."""

    async def check(self, content: bytes) -> CheckedPlan:
        return CheckedPlan(run=f"{json.loads(content)['name']}-1", name=json.loads(content)["name"], target="tiny")


async def test_a_run_file_is_submitted_with_its_good_and_bad_rows(tmp_path: Path, capsys: Any) -> None:
    path = run_file(tmp_path, '{"prompt": "one"}', "no json", '{"prompt": "three"}', '{"prompt": "half \\ud800"}')
    async with ingestion(tmp_path, plans=AnyPlan()) as served:
        assert await command(served, "submit", str(path), "--dry-run", "--json") == 0
        assert json.loads(capsys.readouterr().out)["run"] == "small-1"
        assert await command(served, "runs") == 0
        assert capsys.readouterr().out == "No runs.\n"
        assert await command(served, "submit", str(path), "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"run": "small-1"}
        found = [row async for row in uploaded_rows(served.tables.uploads, served.store, "small-1")]
    assert [getattr(row, "reason", "") for row in found] == ["", "not_json", "", "bad_unicode"]
    assert all(str(tmp_path) in row.where for row in found)


async def test_runs_are_listed_watched_and_moved(tmp_path: Path, capsys: Any) -> None:
    path = run_file(tmp_path, '{"prompt": "one"}')
    async with ingestion(tmp_path, plans=AnyPlan()) as served:
        await command(served, "submit", str(path))
        await served.tables.runs.set_state("small-1", RunState.RUNNING)
        capsys.readouterr()
        assert await command(served, "pause", "small-1") == 0
        assert capsys.readouterr().out == "small-1 is paused\n"
        assert await command(served, "submit", str(path), "--watch") == 0
        assert "Go on: tracemend resume small-1" in capsys.readouterr().out
        assert await command(served, "resume", "small-1", "--json") == 0
        assert json.loads(capsys.readouterr().out)["state"] == "running"
        assert await command(served, "runs", "--state", "running", "--json") == 0
        assert [run["run"] for run in json.loads(capsys.readouterr().out)] == ["small-1"]
        assert await command(served, "runs", "--state", "nowhere") == 2
        assert await command(served, "cancel", "small-1") == 0
        capsys.readouterr()
        assert await command(served, "watch", "small-1", "--json") == 5
        (line,) = capsys.readouterr().out.splitlines()
        assert (json.loads(line)["state"], json.loads(line)["num_received"]) == ("cancelled", 1)
        assert await command(served, "resume", "small-1") == 2
        assert "from where it cannot become running" in capsys.readouterr().err
        assert await command(served, "submit", str(path)) == 2
        assert "change the run file's name" in capsys.readouterr().err
        assert await command(served, "watch", "none") == 2


@pytest.mark.parametrize("order", ["pause", "cancel"])
async def test_what_is_done_is_neither_paused_nor_cancelled(order: str, tmp_path: Path, capsys: Any) -> None:
    path = run_file(tmp_path, '{"prompt": "one"}')
    async with ingestion(tmp_path, plans=AnyPlan()) as served:
        await command(served, "submit", str(path))
        for state in (RunState.RUNNING, RunState.DONE):
            await served.tables.runs.set_state("small-1", state)
        assert await command(served, order, "small-1") == 2
        assert "the run is done, from where it cannot become" in capsys.readouterr().err


async def until_sealed(served: Served) -> None:
    for _ in range(500):
        record = await served.tables.runs.get("small-1")
        if record is not None and record.state is not RunState.RECEIVING:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the run was not sealed in ten seconds")


async def test_a_watched_run_that_is_done_exits_with_0(tmp_path: Path, capsys: Any) -> None:
    path = run_file(tmp_path, '{"prompt": "one"}')
    async with ingestion(tmp_path, plans=AnyPlan()) as served:
        watching = asyncio.create_task(command(served, "submit", str(path), "--watch"))
        for state in (RunState.RUNNING, RunState.DONE):
            await until_sealed(served)
            await served.tables.runs.set_state("small-1", state)
        assert await watching == 0
    assert "small-1 done: 0/0 units" in capsys.readouterr().err


async def test_a_story_and_a_redrive_come_from_the_cluster(tmp_path: Path, capsys: Any) -> None:
    path = run_file(tmp_path, '{"prompt": "one"}')
    verdict = builders.verdict()
    story = SimpleNamespace(
        matched="x", row=1, prompt=verdict.trajectory.prompt, samples=(verdict,), rewrites=(), forks=(), outcomes=(),
        published=(), num_open=2,
    )  # fmt: skip
    async with ingestion(tmp_path, plans=AnyPlan()) as served:
        await command(served, "submit", str(path))
        await served.tables.runs.set_state("small-1", RunState.RUNNING)
        served.work.stories["x"] = story
        capsys.readouterr()
        assert await command(served, "trace", "small-1", "x") == 0
        told = capsys.readouterr().out
        assert verdict.trajectory.prompt.text.label() in told
        assert "2 units are still open" in told
        assert await command(served, "redrive", "small-1", "--reason", "lost", "--json") == 0
        assert json.loads(capsys.readouterr().out)["num_units"] == 3
        assert served.units.asked[-1]["reason"] == "lost"


async def test_a_cluster_out_of_reach_is_no_mistake_of_the_users(capsys: pytest.CaptureFixture[str]) -> None:
    async with AsyncClient("127.0.0.1:1", patience_s=0.1) as client:
        with pytest.raises(Exception, match="out of reach"):
            await client.run("x").status()
