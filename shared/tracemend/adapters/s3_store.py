"""The `s3:` store: content-addressed blobs in a bucket of MinIO or any S3 server, checked on every read.

Opened by `runtime`. A blob lies at `blobs/sha256/<2 hex>/<sha256>` below the configured prefix. Writing it again is
overwriting it with the same bytes, so no conditional writes are needed and whoever does not know whether a write
arrived writes again. A blob found damaged is reported, and what was read is kept under `quarantine/` for whoever looks
into it; the original stays where it is, since deleting it could hit a good copy that somebody just wrote over it, and
the next `put` of its content mends it.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import AsyncIterator, Callable

import structlog

from tracemend.adapters.s3_bucket import Bucket, ObjectFacts
from tracemend.adapters.s3_errors import Missing, PastEnd
from tracemend.kit import crash_points
from tracemend.kit.errors import CorruptBlob, Retry, SetupError
from tracemend.kit.telemetry import STORE_CORRUPT

BLOBS = "blobs/sha256/"
QUARANTINE = "quarantine/"
RENEWED_AFTER_S = 3600.0
"""A blob older than this is written again although it is there: sweepers go by age, and somebody needs it now."""
_ASKED_FROM_BYTES = 4 * 2**20
"""Smaller blobs are sent unasked: a pack of results is nearly always new, and asking costs as much as half of it."""
_HASHED_ASIDE_FROM_BYTES = 64 * 2**10
"""Hashing fewer bytes takes no longer than handing them to a thread."""

_DIGEST = re.compile(r"[0-9a-f]{64}")

log = structlog.get_logger(__name__)


class S3Store:
    """`kit.ports.Store` in a bucket. `clock` gives seconds since 1970."""

    def __init__(self, bucket: Bucket, clock: Callable[[], float] = time.time) -> None:
        self.bucket = bucket
        self._clock = clock
        self._reached = False

    async def put(self, content: bytes) -> str:
        """Storing a large blob again costs two questions, unless it is old; a small one is sent again."""
        digest = await self._digest_of(content)
        if len(content) < _ASKED_FROM_BYTES or not await self._holds(digest, len(content)):
            await self.bucket.put(name_of(digest), content)
        return digest

    async def get(self, digest: str) -> bytes:
        content = await self._read(digest)
        if await self._digest_of(content) == digest or crash_points.is_missing(crash_points.DIGEST_CHECK):
            return content
        again = await self._read(digest)
        if await self._digest_of(again) == digest:
            log.warning("blob_damaged_on_the_way", digest=digest, endpoint=self.bucket.settings.endpoint)
            return again
        await self._quarantine(digest, again)
        raise CorruptBlob(
            f"blob {digest} in {self._place} has changed since it was stored ({QUARANTINE}{digest} keeps what was "
            "read): restore it from a copy, or delete it and run what made it again"
        )

    async def get_range(self, digest: str, *, offset: int, length: int) -> bytes:
        """`CorruptBlob` where the blob ends before `offset + length`."""
        if offset < 0 or length < 0:
            raise ValueError(f"a range starts and extends forwards, not at {offset} by {length}")
        if length == 0:
            return await self._nothing(digest, offset)
        try:
            content = await self._read(digest, offset=offset, length=length)
        except PastEnd:
            content = b""
        if len(content) != length:
            raise CorruptBlob(f"blob {digest} in {self._place} ends before {offset} + {length} bytes: it was cut off")
        return content

    async def has(self, digest: str) -> bool:
        return await self.facts(digest) is not None

    async def digests(self) -> AsyncIterator[str]:
        await self._reach()
        async for found in self.bucket.objects(BLOBS):
            if (digest := digest_in(found.name)) is not None:
                yield digest

    async def delete(self, digest: str) -> None:
        """Also what a damaged blob left in quarantine: a purge must not miss it."""
        name = name_of(digest)
        await self._reach()
        await self.bucket.delete(name)
        await self.bucket.delete(QUARANTINE + digest)

    async def aclose(self) -> None:
        self.bucket.close()

    async def _holds(self, digest: str, num_bytes: int) -> bool:
        """Whether the blob is there whole, as far as asking shows, and young enough for any sweeper to leave it."""
        found = await self.facts(digest)
        if found is None or found.num_bytes != num_bytes or self._clock() - found.modified_s > RENEWED_AFTER_S:
            return False
        return await self.bucket.facts(QUARANTINE + digest) is None

    async def facts(self, digest: str) -> ObjectFacts | None:
        """What the bucket says about a blob; none if it is not there."""
        name = name_of(digest)
        await self._reach()
        return await self.bucket.facts(name)

    async def _digest_of(self, content: bytes) -> str:
        """Hashing releases the interpreter's lock: large blobs are hashed beside one another and beside the loop."""
        if len(content) < _HASHED_ASIDE_FROM_BYTES:
            return _sha256(content)
        return await self.bucket.in_thread(_sha256, content)

    async def _read(self, digest: str, *, offset: int = 0, length: int = 0) -> bytes:
        try:
            return await self.bucket.get(name_of(digest), offset=offset, length=length)
        except Missing:
            raise KeyError(digest) from None

    async def _nothing(self, digest: str, offset: int) -> bytes:
        found = await self.facts(digest)
        if found is None:
            raise KeyError(digest)
        if offset > found.num_bytes:
            raise CorruptBlob(f"blob {digest} in {self._place} ends before {offset} bytes: it was cut off")
        return b""

    async def _quarantine(self, digest: str, content: bytes) -> None:
        self.bucket.telemetry.count(STORE_CORRUPT)
        log.error("blob_damaged", digest=digest, endpoint=self.bucket.settings.endpoint, num_bytes=len(content))
        try:
            await self.bucket.put(QUARANTINE + digest, content)
        except (Retry, SetupError) as error:
            log.warning("blob_not_quarantined", digest=digest, reason=str(error))

    async def _reach(self) -> None:
        """Ask once for a listing before trusting an "is not there": for single objects a server says no more than 404
        where the bucket is missing, and a listing's refusal comes with its reason."""
        if not self._reached:
            async for _ in self.bucket.objects(f"{BLOBS}-"):
                break
            self._reached = True

    @property
    def _place(self) -> str:
        return f"bucket '{self.bucket.settings.bucket}'"


def name_of(digest: str) -> str:
    """The object that holds blob `digest`; `ValueError` for what is no digest."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is no digest: 64 lower-case hexadecimal digits name a blob")
    return f"{BLOBS}{digest[:2]}/{digest}"


def digest_in(name: str) -> str | None:
    """The blob that an object holds; none for a stranger's object."""
    digest = name.rsplit("/", 1)[-1]
    return digest if _DIGEST.fullmatch(digest) and name_of(digest) == name else None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
