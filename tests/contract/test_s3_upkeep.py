"""Links, lifecycle rules, sweeping and large blobs, on a real server."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp
import pytest
from structlog.testing import capture_logs
from tests.contract.s3_buckets import new_bucket

from tracemend.adapters.kafka_topics import wanted
from tracemend.adapters.s3_bucket import Bucket
from tracemend.adapters.s3_lifecycle import apply_rules, check_rules, needed_hours
from tracemend.adapters.s3_links import link_to
from tracemend.adapters.s3_settings import MIN_PART_BYTES
from tracemend.adapters.s3_store import BLOBS, RENEWED_AFTER_S, S3Store
from tracemend.adapters.s3_sweep import sweep
from tracemend.kit.errors import SetupError
from tracemend.topics import ALL, DEAD_LETTERS, PROMPTS

pytestmark = pytest.mark.servers

LATER_S = needed_hours() * 3600 + 60


@pytest.fixture
async def bucket() -> AsyncIterator[Bucket]:
    async with new_bucket(part_bytes=MIN_PART_BYTES) as made:
        yield made


@pytest.fixture
def store(bucket: Bucket) -> S3Store:
    return S3Store(bucket)


async def test_a_blob_in_parts_comes_back_whole_and_by_range(store: S3Store) -> None:
    content = os.urandom(2 * MIN_PART_BYTES + 12_345)
    digest = await store.put(content)
    assert await store.get(digest) == content
    assert await store.get_range(digest, offset=MIN_PART_BYTES - 5, length=10) == content[MIN_PART_BYTES - 5 :][:10]


@pytest.mark.parametrize("size", [1024, 600 * 1024])
async def test_racing_writers_from_several_stores_leave_one_whole_blob(bucket: Bucket, size: int) -> None:
    content = os.urandom(size)
    stores = [S3Store(Bucket(bucket.settings)) for _ in range(4)]
    digests = await asyncio.gather(*(store.put(content) for store in stores for _ in range(8)))
    assert len(set(digests)) == 1
    assert await stores[0].get(digests[0]) == content
    assert [found.num_bytes async for found in bucket.objects(BLOBS)] == [size]
    for each in stores:
        await each.aclose()


async def test_two_prefixes_of_one_bucket_do_not_see_each_other(bucket: Bucket, store: S3Store) -> None:
    digest = await store.put(b"mine")
    other = S3Store(Bucket(replace(bucket.settings, prefix="some/where-else/")))
    assert not await other.has(digest)
    assert [each async for each in other.digests()] == []


async def test_strangers_objects_are_not_listed_as_blobs(bucket: Bucket, store: S3Store) -> None:
    digest = await store.put(b"mine")
    await bucket.put(f"{BLOBS}README", b"x")
    await bucket.put(f"{BLOBS}zz/{digest}", b"wrong folder")
    assert [each async for each in store.digests()] == [digest]


# ----------------------------------------------------------------------------------------------- links


async def test_a_link_gives_the_blob_as_a_text_file_to_get_alone_and_is_not_logged(store: S3Store) -> None:
    digest = await store.put(b"<script>words</script>")
    with capture_logs() as logged:
        link = await link_to(store, digest, valid_s=60)
    assert [entry["digest"] for entry in logged] == [digest]
    assert urlsplit(link).query not in str(logged)
    async with aiohttp.ClientSession() as session:
        async with session.get(link) as response:
            assert await response.read() == b"<script>words</script>"
            assert response.content_type == "text/plain"
            assert response.headers["Content-Disposition"] == f'attachment; filename="{digest}.txt"'
        async with session.put(link, data=b"other") as refused:
            assert refused.status == 403
    assert await store.get(digest) == b"<script>words</script>"


async def test_a_link_ends_with_its_time(store: S3Store) -> None:
    link = await link_to(store, await store.put(b"x"), valid_s=1)
    await asyncio.sleep(2.1)
    async with aiohttp.ClientSession() as session, session.get(link) as response:
        assert response.status == 403


async def test_a_link_is_short_lived_and_to_something(store: S3Store) -> None:
    digest = await store.put(b"x")
    for valid_s in (0, 901, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="valid for"):
            await link_to(store, digest, valid_s=valid_s)
    with pytest.raises(KeyError):
        await link_to(store, "0" * 64)


# ------------------------------------------------------------------------------------------- lifecycle


async def test_our_rules_are_set_once_beside_other_peoples_and_touch_no_blob(bucket: Bucket) -> None:
    from minio.commonconfig import ENABLED, Filter
    from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

    name = bucket.settings.bucket
    theirs = Rule(ENABLED, rule_filter=Filter(prefix="theirs/"), rule_id="theirs", expiration=Expiration(days=3))
    bucket.client.set_bucket_lifecycle(name, LifecycleConfig([theirs]))
    await apply_rules(bucket)
    await apply_rules(bucket)
    rules = {rule.rule_id: rule for rule in bucket.client.get_bucket_lifecycle(name).rules}
    assert len(rules) == 4
    assert rules["theirs"].expiration.days == 3
    assert {rule.rule_filter.prefix: rule.expiration.days for rule in rules.values() if rule.expiration.days} == {
        "theirs/": 3,
        "some/where/probe/": 1,
        "some/where/quarantine/": 30,
    }
    await check_rules(bucket)


@pytest.mark.parametrize("prefix", ["", "some/", "some/where/blobs/sha256/ab/"])
async def test_a_rule_that_would_take_blobs_too_early_is_refused(bucket: Bucket, prefix: str) -> None:
    from minio.commonconfig import ENABLED, Filter
    from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

    days = int(needed_hours() // 24)
    for number, fine in ((days, True), (days - 1, False)):
        rule = Rule(ENABLED, rule_filter=Filter(prefix=prefix), rule_id="tidy", expiration=Expiration(days=number))
        bucket.client.set_bucket_lifecycle(bucket.settings.bucket, LifecycleConfig([rule]))
        if fine:
            await check_rules(bucket)
        else:
            with pytest.raises(SetupError, match=r"'tidy'.*removes blobs after"):
                await check_rules(bucket)


async def test_a_rule_that_takes_blobs_by_date_takes_them_too_early(bucket: Bucket) -> None:
    from minio.commonconfig import ENABLED, Filter
    from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

    far = Expiration(date=datetime(2100, 1, 1, tzinfo=UTC))
    rule = Rule(ENABLED, rule_filter=Filter(prefix=""), rule_id="tidy", expiration=far)
    bucket.client.set_bucket_lifecycle(bucket.settings.bucket, LifecycleConfig([rule]))
    with pytest.raises(SetupError, match="'tidy'"):
        await check_rules(bucket)


def test_blobs_stay_as_long_as_a_message_on_any_topic_and_its_dead_letter_may_name_them() -> None:
    longest = max(topic.retention_hours for topic in ALL)
    assert needed_hours(dead_letter_hours=10, redrive_hours=1) == longest + 11
    longer = replace(PROMPTS, retention_hours=longest + 24)
    assert needed_hours((*ALL, longer)) == needed_hours() + 24


def test_blobs_outlive_the_dead_letters_as_the_broker_is_told_to_keep_them() -> None:
    hours = {one.name: int(one.configs["retention.ms"]) / 3_600_000 for one in wanted(ALL)}
    for topic in ALL:
        assert needed_hours() > hours[topic.name] + hours[topic.name + DEAD_LETTERS]


# ------------------------------------------------------------------------------------------------ sweep


async def test_sweeping_takes_what_is_old_and_without_reference_and_a_dry_run_only_says_so(store: S3Store) -> None:
    kept, orphan = await store.put(b"kept"), await store.put(b"orphan")
    young = await sweep(store, {kept}, dry_run=False)
    assert (young.num_kept, young.num_waiting, young.deleted) == (1, 1, ())
    dry = await sweep(store, {kept}, clock=lambda: time.time() + LATER_S)
    assert (dry.deleted, dry.num_bytes) == ((orphan,), len(b"orphan"))
    assert await store.has(orphan)
    swept = await sweep(store, {kept}, dry_run=False, clock=lambda: time.time() + LATER_S)
    assert swept == dry
    assert [each async for each in store.digests()] == [kept]


async def test_a_blob_that_is_stored_again_while_the_sweep_goes_on_stays(store: S3Store, bucket: Bucket) -> None:
    """The writer finds it old, writes it anew, and the last look before deleting sees that."""
    orphan = await store.put(os.urandom(4_500_000))
    content = await store.get(orphan)
    began_s = time.time()
    await asyncio.sleep(2.2)  # heads tell whole seconds
    ticks = iter([began_s + 10**9])

    class Rewritten(S3Store):
        async def facts(self, digest: str):  # type: ignore[no-untyped-def]  # the last look comes after another's put
            await S3Store(bucket, clock=lambda: time.time() + 2 * RENEWED_AFTER_S).put(content)
            return await super().facts(digest)

    grace_s = needed_hours() * 3600
    swept = await sweep(
        Rewritten(bucket), set(), grace_s=grace_s, dry_run=False, clock=lambda: next(ticks, began_s + 1 + grace_s)
    )
    assert (swept.num_waiting, swept.deleted) == (1, ())
    assert await store.get(orphan) == content


async def test_too_short_a_grace_is_refused(store: S3Store) -> None:
    with pytest.raises(ValueError, match="too few"):
        await sweep(store, set(), grace_s=3600)
