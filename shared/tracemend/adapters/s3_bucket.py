"""A bucket as asyncio sees it: objects by name, in a bounded number of threads and connections, patiently.

`s3_store` keeps blobs with it, `s3_probe`, `s3_lifecycle` and `s3_sweep` use it beside. One operation is tried again,
with growing random pauses, while its failure may pass (`s3_errors`); all of them may safely be done twice. Names are
relative to the configured prefix.
"""

from __future__ import annotations

import asyncio
import functools
import io
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from tracemend.adapters.s3_errors import Missing, PastEnd, caught, translated
from tracemend.adapters.s3_settings import MIN_PART_BYTES, S3Settings
from tracemend.kit.errors import Retry
from tracemend.kit.telemetry import NO_TELEMETRY, STORE_BYTES, STORE_SECONDS, Telemetry

A = TypeVar("A")
T = TypeVar("T")
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFacts:
    """What a bucket says about one object."""

    name: str
    num_bytes: int
    modified_s: float
    """By the server's clock, in seconds since 1970."""
    headers: Mapping[str, str]


class Bucket:
    """Objects of one bucket. Connects on first use; safe in any number of tasks, not across processes."""

    def __init__(self, settings: S3Settings, telemetry: Telemetry = NO_TELEMETRY) -> None:
        if settings.part_bytes < MIN_PART_BYTES:
            raise ValueError(f"parts of {settings.part_bytes:,} bytes: S3 takes none below {MIN_PART_BYTES:,}")
        self.settings = settings
        self.telemetry = telemetry
        self._threads = ThreadPoolExecutor(settings.num_connections, thread_name_prefix="s3")

    async def put(self, name: str, content: bytes) -> None:
        """Write or overwrite an object; in parts above `part_bytes`."""

        def work() -> None:
            self.client.put_object(
                self.settings.bucket,
                self.settings.prefix + name,
                io.BytesIO(content),
                len(content),
                sse=self._sse,
                part_size=self.settings.part_bytes,
            )

        await self.run("put", work)
        self.telemetry.count(STORE_BYTES, len(content), op="put")

    async def get(self, name: str, *, offset: int = 0, length: int = 0) -> bytes:
        """An object, or `length` bytes of it, fewer where it ends before; `Missing` if there is none,
        `PastEnd` if it ends before `offset`."""

        def work() -> bytes:
            response = self.client.get_object(
                self.settings.bucket, self.settings.prefix + name, offset=offset, length=length
            )
            try:
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

        content = await self.run("get", work)
        self.telemetry.count(STORE_BYTES, len(content), op="get")
        return content

    async def facts(self, name: str) -> ObjectFacts | None:
        """None if there is no such object."""
        try:
            found = await self.run(
                "head", lambda: self.client.stat_object(self.settings.bucket, self.settings.prefix + name)
            )
        except Missing:
            return None
        return self._facts(found)

    async def objects(self, prefix: str) -> AsyncIterator[ObjectFacts]:
        """What lies under `prefix`, by name; a failing page is asked for again from where it began."""
        after: str | None = None
        while True:
            page = await self.run("list", functools.partial(self._page, prefix, after))
            for found in page:
                yield self._facts(found)
            if len(page) < _PAGE:
                return
            after = page[-1].object_name

    async def delete(self, name: str) -> None:
        """Remove an object; an absent one is no error."""
        await self.run("delete", lambda: self.client.remove_object(self.settings.bucket, self.settings.prefix + name))

    async def run(self, op: str, work: Callable[[], T]) -> T:
        """`work` on the client in a thread, until it succeeds, is refused, or patience ends."""
        import stamina

        settings = self.settings
        async for attempt in stamina.retry_context(
            on=Retry, attempts=settings.num_attempts, timeout=settings.patience_s, wait_initial=0.1, wait_max=5.0
        ):
            with attempt, self._timed(op):
                return await self.in_thread(self._explained, work)
        raise AssertionError("the last attempt returns or raises")

    async def in_thread(self, work: Callable[[A], T], on: A) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, on)

    def close(self) -> None:
        """Let go of threads and connections; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @functools.cached_property
    def client(self) -> Any:
        """The `minio.Minio` beneath, with a bounded pool and no retries of its own."""
        import certifi
        import urllib3
        from minio import Minio

        settings = self.settings
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=settings.connect_timeout_s, read=settings.read_timeout_s),
            maxsize=settings.num_connections,
            block=True,
            retries=urllib3.Retry(0, raise_on_redirect=False, raise_on_status=False),
            cert_reqs="CERT_REQUIRED",
            ca_certs=settings.ca_file or certifi.where(),
        )
        return Minio(
            settings.host,
            secure=settings.secure,
            region=settings.region,
            http_client=pool,
            credentials=_identity(settings),
        )

    @functools.cached_property
    def _sse(self) -> Any:
        from minio.sse import SseKMS, SseS3

        if not self.settings.sse:
            return None
        return SseS3() if self.settings.sse == "s3" else SseKMS(self.settings.sse.removeprefix("kms:"), {})

    def _page(self, prefix: str, after: str | None) -> list[Any]:
        listed = self.client.list_objects(
            self.settings.bucket, self.settings.prefix + prefix, recursive=True, start_after=after
        )
        return list(itertools.islice(listed, _PAGE))

    def _facts(self, found: Any) -> ObjectFacts:
        return ObjectFacts(
            name=found.object_name.removeprefix(self.settings.prefix),
            num_bytes=int(found.size),
            modified_s=found.last_modified.timestamp(),
            headers=dict(found.metadata or {}),
        )

    def _explained(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except caught() as error:
            raise translated(error, self.settings) from error

    @contextmanager
    def _timed(self, op: str) -> Iterator[None]:
        began, outcome = time.perf_counter(), "failed"
        try:
            yield
            outcome = "ok"
        except (Missing, PastEnd):
            outcome = "ok"
            raise
        finally:
            self.telemetry.observe(STORE_SECONDS, time.perf_counter() - began, op=op, outcome=outcome)


def _identity(settings: S3Settings) -> Any:
    """Credentials, asked for anew at every request so that rotated ones are taken up."""
    from minio.credentials.credentials import Credentials
    from minio.credentials.providers import EnvAWSProvider, IamAwsProvider, Provider

    class Given(Provider):
        def retrieve(self) -> Credentials:
            return Credentials(settings.access_key, settings.secret_key.reveal())

    if settings.access_key:
        return Given()
    return EnvAWSProvider() if "AWS_ACCESS_KEY_ID" in os.environ else IamAwsProvider()
