"""What a folder full of strangers' files, damage, kills and a full disk do to the `file:` store."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracemend.adapters.folder_store import FolderStore
from tracemend.kit.errors import CorruptBlob, SetupError

WRITER = Path(__file__).with_name("crash_writers.py")

FULL_DISK = """
import asyncio, os, resource, sys
from pathlib import Path
from tracemend.adapters.folder_store import FolderStore
from tracemend.kit.errors import Retry
store = FolderStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    asyncio.run(store.put(os.urandom(200_000)))
except Retry as full:
    print("retry:", full.reason)
print("files:", sum(path.is_file() for path in store.root.rglob("*")))
print("then:", asyncio.run(store.put(b"small")))
"""


def blob_path(store: FolderStore, digest: str) -> Path:
    return store.root / "blobs" / digest[:2] / digest


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.mark.parametrize("damage", [b"", b"0123456780", b"0123456789+"], ids=["emptied", "one bit", "longer"])
async def test_a_damaged_blob_is_told_and_storing_it_again_mends_it(store: FolderStore, damage: bytes) -> None:
    digest = await store.put(b"0123456789")
    blob_path(store, digest).write_bytes(damage)
    with pytest.raises(CorruptBlob, match=digest):
        await store.get(digest)
    assert await store.put(b"0123456789") == digest
    assert await store.get(digest) == b"0123456789"


async def test_a_link_in_place_of_a_blob_is_not_followed(store: FolderStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    digest = await store.put(b"x")
    blob_path(store, digest).unlink()
    blob_path(store, digest).symlink_to(secret)
    with pytest.raises(CorruptBlob):
        await store.get(digest)
    with pytest.raises(CorruptBlob):
        await store.get_range(digest, offset=0, length=6)
    assert not await store.has(digest)
    await store.put(b"x")
    assert await store.get(digest) == b"x"
    assert secret.read_bytes() == b"secret"


async def test_a_link_in_place_of_a_folder_is_not_followed(store: FolderStore, tmp_path: Path) -> None:
    digest = await store.put(b"x")
    folder = blob_path(store, digest).parent
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    with pytest.raises(CorruptBlob):
        await store.get(digest)
    with pytest.raises(CorruptBlob):
        await store.put(b"x")


async def test_a_pipe_in_place_of_a_blob_does_not_block(store: FolderStore) -> None:
    digest = await store.put(b"x")
    blob_path(store, digest).unlink()
    os.mkfifo(blob_path(store, digest))
    with pytest.raises(CorruptBlob):
        await asyncio.wait_for(store.get(digest), 10)
    assert not await store.has(digest)


async def test_strangers_files_are_not_listed(store: FolderStore) -> None:
    digest = await store.put(b"x")
    (blob_path(store, digest).parent / "notes.txt").write_text("mine")
    (store.root / "blobs" / "README").write_text("mine")
    (store.root / "blobs" / "zz").mkdir()
    (store.root / "blobs" / "zz" / digest).write_text("wrong folder")
    assert [each async for each in store.digests()] == [digest]


async def test_sweeping_removes_old_leftovers_only(store: FolderStore) -> None:
    digest = await store.put(b"x")
    old, young = store.root / "tmp" / "old", store.root / "tmp" / "young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    assert await store.sweep() == 1
    assert not old.exists()
    assert young.exists()
    assert await store.sweep(older_than_s=0) == 1
    assert await store.get(digest) == b"x"


def test_a_full_disk_asks_to_retry_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The limit on file sizes stands in for the disk: the kernel refuses the write in the same place."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "store")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "retry: no room" in said
    assert "files: 0" in said
    assert "then: " in said


def test_a_root_that_cannot_be_a_folder_is_a_setup_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="choose a folder"):
        FolderStore(tmp_path / "file" / "store")


def stored_before_being_killed(root: Path, after_s: float) -> list[str]:
    """Digests that a writer reported until it was killed, `after_s` after its first."""
    command = [sys.executable, str(WRITER), "store", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(after_s)
        writer.kill()
        return [line.strip() for line in (first, *writer.stdout) if line.endswith("\n")]


def test_a_writer_killed_anywhere_leaves_no_half_blob_and_loses_none_that_it_stored(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    chance = random.Random(5)
    stored = {digest for _ in range(6) for digest in stored_before_being_killed(store.root, chance.uniform(0, 0.1))}

    async def look() -> set[str]:
        listed = {digest async for digest in store.digests()}
        assert {len(await store.get(digest)) for digest in listed} == {300_000}
        await store.sweep(older_than_s=0)
        return listed

    listed = asyncio.run(look())
    assert stored <= listed
    assert {path.name for path in store.root.rglob("*") if path.is_file()} == listed
