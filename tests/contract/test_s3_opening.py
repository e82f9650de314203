"""The `s3:` store as programs open it: by URL, proven at the start, told apart from a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.s3_buckets import new_bucket

from tracemend.adapters.s3_settings import MIN_PART_BYTES
from tracemend.adapters.s3_store import S3Store
from tracemend.kit.errors import SetupError
from tracemend.kit.telemetry import STORE_BYTES, STORE_SECONDS
from tracemend.runtime import stores
from tracemend.runtime.opening import open_store


class Told:
    """Telemetry that remembers what it was told of the store."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, str]]] = []

    def count(self, name: str, number: float = 1, **labels: str) -> None:
        self.said.append((name, labels))

    observe = count


@pytest.mark.servers
async def test_a_store_opened_by_url_keeps_blobs_where_the_url_says_and_tells_what_it_does() -> None:
    async with new_bucket("elsewhere") as bucket:
        told = Told()
        store = open_store(f"s3:{bucket.settings.bucket}/elsewhere", telemetry=told)  # type: ignore[arg-type]  # two methods
        digest = await store.put(b"content")
        assert [found.name async for found in bucket.objects("")] == [f"blobs/sha256/{digest[:2]}/{digest}"]
        assert (STORE_BYTES, {"op": "put"}) in told.said
        assert (STORE_SECONDS, {"op": "put", "outcome": "ok"}) in told.said


@pytest.mark.servers
async def test_a_good_server_is_proven_and_swept_and_tidied() -> None:
    async with new_bucket(part_bytes=MIN_PART_BYTES) as bucket:
        store = S3Store(bucket)
        await stores.prove(store)
        await stores.answers(store)
        await stores.tidy(store)
        await store.put(b"young")
        assert (await stores.sweep_unreferenced(store, set())).num_waiting == 1


@pytest.mark.servers
async def test_a_wrong_secret_is_a_setup_error_that_does_not_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with new_bucket() as bucket:
        monkeypatch.setenv("S3_SECRET_KEY", "shibboleth")
        store = open_store(f"s3:{bucket.settings.bucket}")
        with pytest.raises(SetupError, match="S3_SECRET_KEY does not belong") as refused:
            await stores.answers(store)
        assert "shibboleth" not in str(refused.value)


async def test_a_folder_is_proven_by_being_there_and_has_no_links(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}")
    await stores.prove(store)
    await stores.answers(store)
    with pytest.raises(SetupError, match="folder"):
        await stores.link(store, "0" * 64)
