"""Trained models through the store: what is fetched is what was kept, whole or not at all."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tracemend.embedded.carrying import fetch, fetch_folder, keep, parts_of, store_folder
from tracemend.embedded.upkeep import collect
from tracemend.embedded.workspace import connect_workspace
from tracemend.kit.errors import SetupError
from tracemend.records import Checkpoint
from tracemend.runtime.opening import open_store

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 40, "sub/empty": b""}
CHECKPOINT = Checkpoint(
    id="checkpoint-1",
    arm="mend",
    parent="base",
    model="m" * 64,
    path="checkpoints/mend/model",
    dataset="dataset-1",
    step=1,
    final_loss=0.5,
)


def written(folder: Path) -> Path:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_checkpoint_kept_on_one_machine_is_fetched_on_another_and_survives_gc(tmp_path: Path) -> None:
    async def check() -> None:
        urls = {"store": f"file:{tmp_path / 'store'}", "ledger": f"sqlite:{tmp_path / 'ledger.db'}"}
        async with connect_workspace(tmp_path / "one", worker="one", **urls) as here:
            await here.ledger.open_run("run-1", plan=await here.store.put(b"plan"))
            written(here.folder / CHECKPOINT.path)
            await keep(here, "run-1", CHECKPOINT)
            assert (await collect(here, grace_s=0.0)).num_deleted == 0
        async with connect_workspace(tmp_path / "two", worker="two", **urls) as there:
            await fetch(there, "run-1", CHECKPOINT)
            assert contents(there.folder / CHECKPOINT.path) == FILES

    asyncio.run(check())


def test_a_part_that_is_lost_or_damaged_leaves_no_folder(tmp_path: Path) -> None:
    async def check() -> None:
        store = open_store(f"file:{tmp_path / 'store'}")
        listed = await store_folder(store, written(tmp_path / "model"))
        await store.delete(next(parts_of(listed)))
        with pytest.raises(SetupError, match="lacks a part"):
            await fetch_folder(store, listed, tmp_path / "fetched")
        assert not (tmp_path / "fetched").exists()

    asyncio.run(check())


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "sub/../../outside"])
def test_a_list_that_names_a_file_outside_is_refused(name: str, tmp_path: Path) -> None:
    async def check() -> None:
        store = open_store(f"file:{tmp_path / 'store'}")
        listed = await store_folder(store, written(tmp_path / "model"))
        listed = json.loads(json.dumps(listed).replace("config.json", name))
        with pytest.raises(SetupError, match="outside"):
            await fetch_folder(store, listed, tmp_path / "fetched")
        assert not (tmp_path / "fetched").exists()

    asyncio.run(check())


def test_a_list_whose_digest_is_another_is_refused(tmp_path: Path) -> None:
    async def check() -> None:
        store = open_store(f"file:{tmp_path / 'store'}")
        listed = await store_folder(store, written(tmp_path / "model"))
        listed["files"][0]["sha256"] = "0" * 64
        with pytest.raises(SetupError, match="another digest"):
            await fetch_folder(store, listed, tmp_path / "fetched")

    asyncio.run(check())
