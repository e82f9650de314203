"""What a bad network, a busy server, damage and wrong settings do to the `s3:` store."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.contract import faulty_s3
from tests.contract.faulty_s3 import FaultyS3, says, says_html

from tracemend.adapters.s3_store import QUARANTINE, name_of
from tracemend.kit.errors import CorruptBlob, Retry, SetupError

LARGE = os.urandom(200_000)
DIGEST = hashlib.sha256(LARGE).hexdigest()


@pytest.fixture
async def server() -> AsyncIterator[FaultyS3]:
    async with faulty_s3.serving() as serving:
        yield serving


PASSING = {
    "busy": says(503, "SlowDown"),
    "broken": says(500, "InternalError"),
    "a tired proxy": says_html(502),
    "hung up": faulty_s3.hangs_up,
    "done and hung up": faulty_s3.does_it_and_hangs_up,
    "done and silent": faulty_s3.does_it_and_falls_silent,
}


@pytest.mark.parametrize("fault", PASSING)
async def test_a_write_whose_answer_is_lost_or_bad_is_made_again_and_leaves_one_object(
    server: FaultyS3, fault: str
) -> None:
    server.will("PUT", PASSING[fault])
    assert await server.store().put(LARGE) == DIGEST
    assert server.objects == {name_of(DIGEST): LARGE}
    assert server.count("PUT") == 2


@pytest.mark.parametrize("fault", [*PASSING, "broken off"])
async def test_a_read_that_fails_or_breaks_off_is_made_again(server: FaultyS3, fault: str) -> None:
    store = server.store()
    await store.put(LARGE)
    server.will("GET", (PASSING | {"broken off": faulty_s3.breaks_off})[fault])
    assert await store.get(DIGEST) == LARGE


async def test_deleting_twice_after_a_lost_answer_is_no_error(server: FaultyS3) -> None:
    store = server.store()
    await store.put(LARGE)
    server.will("DELETE", faulty_s3.does_it_and_hangs_up)
    await store.delete(DIGEST)
    assert server.objects == {}


async def test_patience_ends_in_a_retry_that_repeats_nothing_of_what_the_server_said(server: FaultyS3) -> None:
    server.will("PUT", *[says(503, "SlowDown")] * 3)
    with pytest.raises(Retry, match="busy") as told:
        await server.store().put(LARGE)
    assert server.count("PUT") == 3
    assert "canary" not in str(told.value)
    assert await server.store().put(LARGE) == DIGEST


async def test_a_full_server_asks_for_long_patience(server: FaultyS3) -> None:
    server.will("PUT", *[says(507, "XMinioStorageFull")] * 3)
    with pytest.raises(Retry, match="no room") as told:
        await server.store().put(LARGE)
    assert told.value.after_s >= 10


async def test_a_server_that_is_not_there_is_a_retry(server: FaultyS3) -> None:
    server.host = "127.0.0.1:1"
    with pytest.raises(Retry, match="does not answer"):
        await server.store(num_attempts=1).put(LARGE)


REFUSALS = {
    "AccessDenied": "s3:PutObject",
    "InvalidAccessKeyId": "S3_ACCESS_KEY",
    "SignatureDoesNotMatch": "S3_SECRET_KEY",
    "NoSuchBucket": "create it",
    "MadeUpByAServer": "MadeUpByAServer",
}


@pytest.mark.parametrize("code", REFUSALS)
async def test_a_refusal_is_asked_once_and_says_what_to_change(server: FaultyS3, code: str) -> None:
    server.will("PUT", says(404 if code == "NoSuchBucket" else 403, code))
    with pytest.raises(SetupError, match=REFUSALS[code]) as told:
        await server.store().put(LARGE)
    assert server.count("PUT") == 1
    assert "canary" not in str(told.value)


async def test_something_that_is_no_s3_server_is_a_setup_error_that_quotes_nothing(server: FaultyS3) -> None:
    server.will("PUT", says_html(404))
    with pytest.raises(SetupError, match="not as an S3 server") as told:
        await server.store().put(LARGE)
    assert "canary" not in str(told.value)


async def test_a_wrong_clock_is_told_with_the_difference(server: FaultyS3) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=1)
    server.will("PUT", says(403, "RequestTimeTooSkewed", date=ahead))
    with pytest.raises(SetupError, match=r"clock.* by 3,[56]\d\d s"):
        await server.store().put(LARGE)


async def test_a_missing_bucket_is_told_before_an_absent_blob_is(server: FaultyS3) -> None:
    store = server.store()
    object.__setattr__(store.bucket.settings, "bucket", "another")
    for call in (store.has(DIGEST), store.get(DIGEST), store.delete(DIGEST), store.put(LARGE)):
        with pytest.raises(SetupError, match="no such bucket"):
            await call


# ---------------------------------------------------------------------------------------------- damage


async def test_a_flipped_bit_in_the_store_is_told_and_kept_aside_and_storing_it_again_mends_it(
    server: FaultyS3,
) -> None:
    store = server.store()
    await store.put(LARGE)
    server.flip(name_of(DIGEST))
    damaged = server.objects[name_of(DIGEST)]
    for _ in range(2):
        with pytest.raises(CorruptBlob, match=DIGEST):
            await store.get(DIGEST)
    assert server.objects[QUARANTINE + DIGEST] == damaged
    assert await store.put(LARGE) == DIGEST
    assert await store.get(DIGEST) == LARGE


async def test_a_bit_flipped_on_the_way_condemns_no_blob(server: FaultyS3) -> None:
    store = server.store()
    await store.put(LARGE)
    server.will("GET", faulty_s3.flips_a_bit_on_the_way)
    assert await store.get(DIGEST) == LARGE
    assert list(server.objects) == [name_of(DIGEST)]


async def test_damage_is_told_even_where_it_cannot_be_kept_aside(server: FaultyS3) -> None:
    store = server.store()
    await store.put(LARGE)
    server.flip(name_of(DIGEST))
    server.will("PUT", says(403, "AccessDenied"))
    with pytest.raises(CorruptBlob):
        await store.get(DIGEST)


async def test_a_blob_cut_short_is_written_again_by_whoever_stores_it(server: FaultyS3) -> None:
    store = server.store()
    await store.put(LARGE)
    server.objects[name_of(DIGEST)] = LARGE[:-1]
    await store.put(LARGE)
    assert server.objects[name_of(DIGEST)] == LARGE


async def test_deleting_a_damaged_blob_deletes_what_was_kept_aside_of_it(server: FaultyS3) -> None:
    store = server.store()
    await store.put(LARGE)
    server.flip(name_of(DIGEST))
    with pytest.raises(CorruptBlob):
        await store.get(DIGEST)
    await store.delete(DIGEST)
    assert server.objects == {}


async def test_a_server_that_ignores_ranges_is_not_believed(server: FaultyS3) -> None:
    store = server.store()
    await store.put(LARGE)
    with pytest.raises(CorruptBlob):
        await store.get_range(DIGEST, offset=3, length=4)


# ------------------------------------------------------------------------------------------- economies


async def test_a_young_large_blob_is_not_sent_again_and_an_old_one_is_so_that_no_sweeper_takes_it(
    server: FaultyS3,
) -> None:
    store, content = server.store(), bytes(5 * 2**20)
    digest = await store.put(content)
    await store.put(content)
    assert server.count("PUT") == 1
    server.age(name_of(digest), 2 * 3600)
    await store.put(content)
    assert server.count("PUT") == 2


async def test_a_large_blob_that_is_there_damaged_is_sent_again_once_that_is_known(server: FaultyS3) -> None:
    store, content = server.store(), bytes(5 * 2**20)
    digest = await store.put(content)
    server.flip(name_of(digest))
    with pytest.raises(CorruptBlob):
        await store.get(digest)
    await store.put(content)
    assert await store.get(digest) == content


async def test_connections_are_bounded_however_many_ask(server: FaultyS3) -> None:
    store = server.store(num_connections=4, read_timeout_s=10.0)
    contents = [os.urandom(100_000) for _ in range(60)]
    digests = await asyncio.gather(*(store.put(content) for content in contents))
    assert [await store.get(digest) for digest in digests] == contents
    assert server.most_active <= 4


@pytest.mark.parametrize(("sse", "headers"), [
    ("s3", {"x-amz-server-side-encryption": "AES256"}),
    ("kms:safe", {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "safe"}),
])  # fmt: skip
async def test_encryption_is_asked_for_with_every_write(server: FaultyS3, sse: str, headers: dict[str, str]) -> None:
    await server.store(sse=sse).put(b"x")
    assert headers.items() <= {name.lower(): value for name, value in server.headers[-1].items()}.items()
