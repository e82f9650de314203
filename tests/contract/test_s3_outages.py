"""The `s3:` store while a real server of its own is killed or falls silent under it."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from tests.servers import broken, own_servers

from tracemend.adapters.s3_bucket import Bucket
from tracemend.adapters.s3_settings import settings_of
from tracemend.adapters.s3_store import S3Store
from tracemend.kit.errors import Retry

NUM_BLOBS = 60


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_what_was_stored_outlives_an_outage_and_what_is_stored_during_it_waits(how: str) -> None:
    with own_servers("minio") as (control, environ):
        changed = {"read_timeout_s": 1.0, "connect_timeout_s": 1.0, "num_attempts": 20}
        bucket = Bucket(settings_of("s3:outage", environ, **changed))
        await bucket.run("make", lambda: bucket.client.make_bucket("outage"))
        store = S3Store(bucket)
        contents = [os.urandom(200_000) for _ in range(NUM_BLOBS)]
        before = [await store.put(content) for content in contents[:10]]

        out, over = threading.Event(), threading.Event()

        def outage() -> None:
            with broken(control, "minio", how):
                out.set()
                over.wait(60.0)

        async def hopeless() -> None:
            impatient = S3Store(Bucket(settings_of("s3:outage", environ, **(changed | {"num_attempts": 1}))))
            await asyncio.to_thread(out.wait, 60.0)
            with pytest.raises(Retry, match="does not answer"):
                await impatient.has(before[0])
            over.set()

        breaking = asyncio.gather(asyncio.to_thread(outage), hopeless())
        digests = await asyncio.gather(*(store.put(content) for content in contents))
        await breaking
        assert digests[:10] == before
        assert [await store.get(digest) for digest in digests] == contents
        assert sorted([digest async for digest in store.digests()]) == sorted(digests)
        await store.aclose()
