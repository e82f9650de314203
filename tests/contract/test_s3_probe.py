"""The probe passes a real server and names what a bad one does wrong, one defect at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from tests.contract.s3_buckets import new_bucket

from tracemend.adapters.s3_bucket import Bucket, ObjectFacts
from tracemend.adapters.s3_errors import Missing
from tracemend.adapters.s3_probe import probe
from tracemend.adapters.s3_settings import MIN_PART_BYTES, S3Settings
from tracemend.kit.errors import SetupError


class BadBucket(Bucket):
    """A bucket in memory with the one `defect` that it is told to have."""

    def __init__(self, defect: str = "") -> None:
        super().__init__(S3Settings(bucket="bad", host="bad.example", part_bytes=MIN_PART_BYTES))
        self.defect = defect
        self.kept: dict[str, bytes] = {}
        self.gone: set[str] = set()

    async def put(self, name: str, content: bytes) -> None:
        await asyncio.sleep(0)
        if self.defect == "refuses overwriting" and name in self.kept:
            return
        if self.defect == "loses parts" and len(content) > self.settings.part_bytes:
            content = content[: self.settings.part_bytes]
        if self.defect == "tears racing writes" and name in self.kept:
            self.kept[name] = content[: len(content) // 2]
            await asyncio.sleep(0)
        self.kept[name] = content
        if self.defect == "keeps racing writes apart":
            self.kept[f"{name}/{len(self.kept)}"] = content

    async def get(self, name: str, *, offset: int = 0, length: int = 0) -> bytes:
        await asyncio.sleep(0)
        if name not in self.kept:
            raise Missing
        content = self.kept[name]
        if self.defect == "stale reads" and content == b"":
            return b"first"
        return content[offset : offset + length] if length and self.defect != "ignores ranges" else content

    async def facts(self, name: str) -> ObjectFacts | None:
        if name not in self.kept and self.defect != "knows everything":
            return None
        ahead = timedelta(hours=1 if self.defect == "wrong clock" else 0)
        date = format_datetime(datetime.now(UTC) + ahead, usegmt=True)
        content = self.kept.get(name, b"")
        return ObjectFacts(name=name, num_bytes=len(content), modified_s=0.0, headers={"Date": date})

    async def objects(self, prefix: str) -> AsyncIterator[ObjectFacts]:
        names = sorted(self.kept) if self.defect == "lists what was deleted" else sorted(self.kept.keys() - self.gone)
        for name in names[1:] if self.defect == "lists late" else names:
            if name.startswith(prefix) and name in self.kept:
                yield ObjectFacts(name=name, num_bytes=len(self.kept[name]), modified_s=0.0, headers={})

    async def delete(self, name: str) -> None:
        if self.defect == "lists what was deleted":
            self.gone.add(name)
        elif self.defect != "keeps what was deleted":
            self.kept.pop(name, None)


DEFECTS = {
    "knows everything": "never was",
    "refuses overwriting": "just written",
    "stale reads": "just written",
    "wrong clock": "NTP",
    "keeps what was deleted": "was deleted",
    "lists late": "lists late",
    "lists what was deleted": "deleted",
    "ignores ranges": "range",
    "loses parts": "parts",
    "tears racing writes": "race of 32 writers",
    "keeps racing writes apart": "lists late|more than one object",
}


@pytest.mark.parametrize("defect", DEFECTS)
async def test_a_defect_is_a_setup_error_that_names_it(defect: str) -> None:
    with pytest.raises(SetupError, match=DEFECTS[defect]):
        await probe(BadBucket(defect))


async def test_a_bucket_without_defects_passes_and_is_left_empty() -> None:
    bucket = BadBucket()
    await probe(bucket)
    assert bucket.kept == {}


@pytest.mark.servers
async def test_the_real_server_passes_and_is_left_empty() -> None:
    async with new_bucket(part_bytes=MIN_PART_BYTES) as bucket:
        await probe(bucket)
        assert [found async for found in bucket.objects("")] == []
