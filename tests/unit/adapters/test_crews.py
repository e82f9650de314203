"""What nodes that train together tell each other through their folder."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from tracemend.adapters.crews import Crew
from tracemend.kit.errors import Reject, SetupError
from tracemend.kit.ports import Job

TOLD = {
    "TRACEMEND_JOB_NODES": "3",
    "TRACEMEND_JOB_RENDEZVOUS": "a-1-0.a:29400",
    "TRACEMEND_JOB_ATTEMPT": "uid-1",
    "JOB_COMPLETION_INDEX": "0",
}


def crew(folder: Path, node: int, **told: str) -> Crew:
    made = Crew.of_environment(folder, {**TOLD, "JOB_COMPLETION_INDEX": str(node), **told})
    assert made is not None
    return made


def job(folder: Path) -> Job:
    return Job(name="train:a", module="some.module", arguments={}, folder=str(folder), num_processes=6)


@pytest.mark.parametrize("told", [{}, {"TRACEMEND_JOB_NODES": "1", "TRACEMEND_JOB_RENDEZVOUS": "x:1"}])
def test_a_node_alone_is_no_crew(told: dict[str, str], tmp_path: Path) -> None:
    assert Crew.of_environment(tmp_path, told) is None


def test_what_a_node_is_not_told_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="3 nodes needs TRACEMEND_JOB_ATTEMPT, JOB_COMPLETION_INDEX"):
        Crew.of_environment(tmp_path, {name: TOLD[name] for name in list(TOLD)[:2]})


def test_processes_are_shared_evenly_or_not_at_all(tmp_path: Path) -> None:
    assert crew(tmp_path, 0).share_of(6) == 2
    with pytest.raises(SetupError, match="num_processes is 4, and 3 nodes share them"):
        crew(tmp_path, 0).share_of(4)


async def test_every_node_hears_every_call_in_order_and_then_that_it_may_go(tmp_path: Path) -> None:
    first, *others = (crew(tmp_path, node) for node in range(3))
    requests = [tmp_path / name / "job.json" for name in ("one", "two\nlines")]

    async def follow(node: Crew) -> list[Path]:
        node.join()
        heard = []
        while (called := await node.heard(len(heard))) is not None:
            assert called[0].num_processes == 6
            assert called[0].module == "some.module"
            heard.append(called[1])
        return heard

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(follow(node)) for node in others]
        for request in requests:
            await first.call(job(tmp_path), request)
        first.dismiss()
    assert [task.result() for task in following] == [requests, requests]


async def test_a_crew_that_does_not_gather_says_who_is_missing_and_why_that_may_be(tmp_path: Path) -> None:
    first = dataclasses.replace(crew(tmp_path, 0), gather_within_s=0.1)
    crew(tmp_path, 1).join()
    crew(tmp_path, 2, TRACEMEND_JOB_ATTEMPT="uid-0").join()
    with pytest.raises(Reject, match=r"nodes 2 of 3 did not come .*ReadWriteMany"):
        await first.call(job(tmp_path), tmp_path / "job.json")
