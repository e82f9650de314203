"""What every store does: `kit.ports.Store` in code. Adapters join by a line in `OPEN`."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from tests.contract.s3_buckets import new_bucket

from tracemend.adapters.folder_store import FolderStore
from tracemend.adapters.s3_store import S3Store
from tracemend.kit.errors import CorruptBlob
from tracemend.kit.ports import Store

ABSENT = "0" * 64


@asynccontextmanager
async def in_a_folder(path: Path) -> AsyncIterator[Store]:
    yield FolderStore(path / "store")


@asynccontextmanager
async def in_a_bucket(_: Path) -> AsyncIterator[Store]:
    async with new_bucket() as bucket:
        yield S3Store(bucket)


OPEN: dict[str, Callable[[Path], AbstractAsyncContextManager[Store]]] = {"file": in_a_folder, "s3": in_a_bucket}


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.servers)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with OPEN[request.param](tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
async def test_a_blob_comes_back_under_the_digest_of_its_content(store: Store, size: int) -> None:
    content = os.urandom(size)
    digest = await store.put(content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert await store.get(digest) == content
    assert await store.has(digest)


async def test_the_same_content_is_stored_once(store: Store) -> None:
    assert await store.put(b"same") == await store.put(b"same")
    assert [digest async for digest in store.digests()] == [hashlib.sha256(b"same").hexdigest()]


async def test_an_absent_blob_is_a_key_error(store: Store) -> None:
    assert not await store.has(ABSENT)
    with pytest.raises(KeyError):
        await store.get(ABSENT)
    with pytest.raises(KeyError):
        await store.get_range(ABSENT, offset=0, length=0)


async def test_ranges_are_the_bytes_they_say(store: Store) -> None:
    digest = await store.put(b"0123456789")
    assert await store.get_range(digest, offset=3, length=4) == b"3456"
    assert await store.get_range(digest, offset=0, length=10) == b"0123456789"
    assert await store.get_range(digest, offset=10, length=0) == b""


async def test_a_range_past_the_end_is_a_corrupt_blob_and_a_backward_one_a_mistake(store: Store) -> None:
    digest = await store.put(b"0123456789")
    with pytest.raises(CorruptBlob):
        await store.get_range(digest, offset=8, length=3)
    with pytest.raises(ValueError, match="forwards"):
        await store.get_range(digest, offset=-1, length=3)
    with pytest.raises(ValueError, match="forwards"):
        await store.get_range(digest, offset=0, length=-1)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", "/" + "a" * 63])
async def test_what_is_no_digest_is_refused_everywhere(store: Store, name: str) -> None:
    for call in (store.get(name), store.has(name), store.delete(name), store.get_range(name, offset=0, length=0)):
        with pytest.raises(ValueError, match="no digest"):
            await call


async def test_a_deleted_blob_is_gone_and_deleting_it_again_is_no_error(store: Store) -> None:
    digest = await store.put(b"x")
    await store.delete(digest)
    await store.delete(digest)
    await store.delete(ABSENT)
    assert not await store.has(digest)
    assert [each async for each in store.digests()] == []
    assert await store.put(b"x") == digest
    assert await store.get(digest) == b"x"


async def test_digests_lists_every_blob(store: Store) -> None:
    stored = {await store.put(str(number).encode()) for number in range(200)}
    listed = [digest async for digest in store.digests()]
    assert len(listed) == len(stored)
    assert set(listed) == stored


async def test_many_writers_of_the_same_and_of_other_blobs_do_not_disturb_one_another(store: Store) -> None:
    contents = [str(number % 20).encode() * 1000 for number in range(200)]
    digests = await asyncio.gather(*(store.put(content) for content in contents))
    assert [await store.get(digest) for digest in digests] == contents
