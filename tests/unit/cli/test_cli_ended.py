"""`tracemend outcomes` and `tracemend letters`, what the commands say while they wait, and which run they mean."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.contract.ledgers import address, prompt
from tests.ingestion_server import Served, ingestion, letter, plan

from tracemend.cli.__main__ import main
from tracemend.cli.cluster_commands import cluster_of
from tracemend.cli.submitting import WaitTold
from tracemend.client import AsyncClient, CallError
from tracemend.records import Outcome, OutcomeState, Unit

RUN = "demo-1"


async def command(served: Served, *arguments: str) -> int:
    """Run it in a thread, as a process of its own would; its exit code."""

    def body() -> int:
        try:
            main([*arguments, "--to", served.address])
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return await asyncio.to_thread(body)


async def ended_units(served: Served) -> None:
    """A run with a unit that was kept and one that died."""
    async with AsyncClient(served.address) as client:
        await client.submit(plan(), [{"text": "one", "category": "benign"}])
    units = [Unit(arm="mend", prompt=f"p{row}", sample=row) for row in (1, 2)]
    await served.ledger.admit(RUN, prompts=[prompt(1), prompt(2)], refused=[], units=units)
    states = [(OutcomeState.KEPT, ""), (OutcomeState.DEAD, "engine_error")]
    outcomes = [
        (Outcome(id=f"o-{unit.prompt}", unit=unit, state=state, reason=reason), address(unit.prompt))
        for unit, (state, reason) in zip(units, states, strict=True)
    ]
    await served.ledger.conclude(RUN, outcomes, epoch=0)


async def test_outcomes_are_listed_filtered_and_cut(tmp_path: Path, capsys: Any) -> None:
    async with ingestion(tmp_path) as served:
        await ended_units(served)
        assert await command(served, "outcomes", RUN) == 0
        told = capsys.readouterr().out
        assert "p1" in told
        assert "engine_error" in told
        assert await command(served, "outcomes", RUN, "--state", "dead", "--json") == 0
        (row,) = map(json.loads, capsys.readouterr().out.splitlines())
        assert (row["prompt"], row["state"], row["reason"]) == ("p2", "dead", "engine_error")
        assert await command(served, "outcomes", RUN, "--limit", "1") == 0
        assert "There are more" in capsys.readouterr().out
        assert await command(served, "outcomes", RUN, "--arm", "other") == 0
        assert capsys.readouterr().out == "No unit has ended so.\n"
        assert await command(served, "outcomes", RUN, "--state", "deid") == 2
        assert "known: kept" in capsys.readouterr().err


async def test_dead_letters_are_listed_counted_and_sent_again(tmp_path: Path, capsys: Any) -> None:
    async with ingestion(tmp_path) as served:
        await ended_units(served)
        assert await command(served, "letters", RUN) == 0
        assert capsys.readouterr().out == "No dead letters.\n"
        served.work.letters_kept += [letter(1), letter(2)]
        assert await command(served, "letters", RUN) == 0
        assert "verdict_2" in capsys.readouterr().out
        assert await command(served, "letters", RUN, "--dry-run") == 0
        assert capsys.readouterr().out == "2 dead letters fit; 0 are published again\n"
        assert await command(served, "letters", RUN, "--redrive", "--reason", "bug", "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"num_matched": 2, "num_published": 2}
        assert served.work.asked[-1]["which"].reason == "bug"


async def test_text_is_not_shown_on_a_cluster_by_a_flag(tmp_path: Path, capsys: Any) -> None:
    async with ingestion(tmp_path) as served:
        assert await command(served, "trace", RUN, "p1", "--show-text") == 2
        assert "reviewers" in capsys.readouterr().err


async def test_whoever_waits_for_a_cluster_is_told_once(capsys: Any) -> None:
    async with AsyncClient("127.0.0.1:1", patience_s=0.5, on_wait=WaitTold()) as client:
        with pytest.raises(CallError, match="out of reach"):
            await client.run("x").status()
    assert capsys.readouterr().err.count("127.0.0.1:1 is out of reach") == 1


def test_a_folder_goes_before_the_variable_and_the_option_before_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path("some-run")
    monkeypatch.delenv("TRACEMEND_TO", raising=False)
    assert cluster_of(run, None) is None
    monkeypatch.setenv("TRACEMEND_TO", "here:1")
    assert cluster_of(run, None) == "here:1"
    assert cluster_of(tmp_path, None) is None
    assert cluster_of(tmp_path, "there:2") == "there:2"
