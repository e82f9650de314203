"""Checkpoints of a training that goes on lie in the store too: another machine goes on from the newest whole one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.unit.trainer.trainer_builders import example_of, job_of

from tracemend.embedded.carrying import parts_of
from tracemend.embedded.underway import KEPT, PHASE, carried_along
from tracemend.embedded.upkeep import collect
from tracemend.embedded.workspace import connect_workspace
from tracemend.kit.errors import Retry
from tracemend.trainer.checkpoints import newest_sealed, prune, seal


def machine(tmp_path: Path, name: str):
    """A workspace in a folder of its own, over the ledger and the store that all machines share."""
    urls = {"store": f"file:{tmp_path / 'store'}", "ledger": f"sqlite:{tmp_path / 'ledger.db'}"}
    return connect_workspace(tmp_path / name, worker=name, **urls)


async def training(workspace):
    return await asyncio.to_thread(job_of, workspace.folder, base=Path("base"), examples=[example_of(0)])


def write(job, step: int) -> Path:
    checkpoint = job.folder / "checkpoints" / f"checkpoint-{step}"
    (checkpoint / "parts").mkdir(parents=True)
    (checkpoint / "parts" / "weights").write_bytes(b"weights" * step)
    seal(checkpoint, fingerprint="this")
    return checkpoint


async def listed(workspace) -> list[dict]:
    found = [address for name, _, address in await workspace.ledger.phases("run-1") if name.startswith(PHASE)]
    return [json.loads(await workspace.store.get(address.pack)) for address in found]


async def until_stored(workspace, step: int) -> None:
    async with asyncio.timeout(10):
        while [stored["step"] for stored in await listed(workspace)][-1:] != [step]:  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0.01)


async def stored_by_one(tmp_path: Path, steps) -> None:
    """One machine trains these steps, keeps one checkpoint at a time and is lost."""
    async with machine(tmp_path, "one") as here:
        await here.ledger.open_run("run-1", plan=await here.store.put(b"plan"))
        job = await training(here)
        async with carried_along(here, "run-1", job, look_s=0.01):
            for step in steps:
                newest = write(job, step)
                await until_stored(here, step)
                prune(newest.parent, newest=newest, keep=1)


async def preempted(workspace, job, *, steps) -> None:
    """A training writes checkpoints and is stopped before anybody has looked at them."""
    try:
        async with carried_along(workspace, "run-1", job, look_s=60):
            for step in steps:
                write(job, step)
            raise Retry("preempted")
    except Retry:
        return


def newest(job) -> str | None:
    found = newest_sealed(job.folder / "checkpoints", fingerprint="this")
    return found and found.name


def test_another_machine_goes_on_from_the_newest(tmp_path: Path) -> None:
    async def check() -> None:
        await stored_by_one(tmp_path, (3, 6))
        async with machine(tmp_path, "two") as there:
            job = await training(there)
            async with carried_along(there, "run-1", job):
                assert newest(job) == "checkpoint-6"

    asyncio.run(check())


@pytest.mark.parametrize("damage", ["lost", "changed"])
def test_a_damaged_one_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    async def check() -> None:
        await stored_by_one(tmp_path, (3, 6))
        async with machine(tmp_path, "two") as there:
            stored = (await listed(there))[-1]
            part = [digest for file in stored["files"] if file["name"].endswith("weights") for digest in file["parts"]]
            if damage == "lost":
                await there.store.delete(part[0])
            else:
                [path] = [path for path in (tmp_path / "store").rglob(f"*{part[0]}*") if path.is_file()]
                path.chmod(0o644)
                path.write_bytes(b"other")
            job = await training(there)
            async with carried_along(there, "run-1", job):
                assert newest(job) == "checkpoint-3"

    asyncio.run(check())


def test_what_a_stopped_training_left_is_stored_before_the_machine_goes(tmp_path: Path) -> None:
    async def check() -> None:
        async with machine(tmp_path, "one") as here:
            await here.ledger.open_run("run-1", plan=await here.store.put(b"plan"))
            job = await training(here)
            await preempted(here, job, steps=(5,))
            assert [stored["step"] for stored in await listed(here)] == [5]

    asyncio.run(check())


def test_a_checkpoint_that_is_not_what_was_sealed_is_not_stored(tmp_path: Path) -> None:
    async def check() -> None:
        async with machine(tmp_path, "one") as here:
            await here.ledger.open_run("run-1", plan=await here.store.put(b"plan"))
            job = await training(here)
            (write(job, 3) / "parts" / "weights").write_bytes(b"other")
            await preempted(here, job, steps=())
            assert await listed(here) == []

    asyncio.run(check())


def test_collecting_garbage_keeps_the_newest_and_the_one_before(tmp_path: Path) -> None:
    async def check() -> None:
        await stored_by_one(tmp_path, (3, 6, 9))
        async with machine(tmp_path, "one") as here:
            assert KEPT == 2
            for _ in range(2):
                await collect(here, grace_s=0.0)
            held = [[await here.store.has(part) for part in parts_of(stored)] for stored in await listed(here)]
            assert [all(each) for each in held] == [False, True, True]

    asyncio.run(check())
