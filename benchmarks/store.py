"""Puts and gets of the `s3:` store beside minio-py alone, on the same server in one run.

Run: python benchmarks/store.py (S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY name the server). Both sides move the same
fresh bytes with as many transfers at once, in alternating rounds; minio-py runs in a thread pool of that size, and
neither hashes to a digest nor checks one. The ratio is ours ÷ minio-py of the medians over rounds, and one process's
processor time says why.
"""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from tracemend.adapters.s3_bucket import Bucket
from tracemend.adapters.s3_settings import settings_of
from tracemend.adapters.s3_store import S3Store

NUM_ROUNDS = 5
AT_ONCE = 8
SIZES = ((2**20, 48), (8 * 2**20, 12))
"""Bytes of a blob, blobs per round: result packs, and dataset shards."""


class Raw:
    """minio-py as its manual shows it."""

    def __init__(self, bucket: Bucket) -> None:
        from minio import Minio

        settings = bucket.settings
        self._bucket = settings.bucket
        self._threads = ThreadPoolExecutor(AT_ONCE)
        self._client = Minio(
            settings.host,
            access_key=settings.access_key,
            secret_key=settings.secret_key.reveal(),
            secure=settings.secure,
            region=settings.region,
        )

    async def put(self, content: bytes) -> str:
        name = secrets.token_hex(16)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(
            self._threads, lambda: self._client.put_object(self._bucket, name, io.BytesIO(content), len(content))
        )
        return name

    async def get(self, name: str) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, name)

    def _read(self, name: str) -> bytes:
        response = self._client.get_object(self._bucket, name)
        try:
            return bytes(response.read())
        finally:
            response.close()
            response.release_conn()


async def timed(works: list[Callable[[], Awaitable[object]]]) -> tuple[float, float]:
    """Seconds on the clock and of this process's processors."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(work: Callable[[], Awaitable[object]]) -> None:
        async with limit:
            await work()

    began, began_cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one(work) for work in works))
    return time.perf_counter() - began, time.process_time() - began_cpu


async def measure(store: S3Store, raw: Raw, num_bytes: int, number: int) -> None:
    seconds: dict[tuple[str, str], list[tuple[float, float]]] = {}
    sides: list[tuple[str, S3Store | Raw]] = [("tracemend", store), ("minio-py", raw)]
    for _ in range(NUM_ROUNDS):
        for name, side in sides:
            contents = [os.urandom(num_bytes) for _ in range(number)]
            names: list[str] = []

            async def put(content: bytes, to: S3Store | Raw = side, into: list[str] = names) -> None:
                into.append(await to.put(content))

            puts = await timed([lambda content=content: put(content) for content in contents])  # type: ignore[misc]  # a default argument of a lambda
            gets = await timed([lambda each=each, of=side: of.get(each) for each in names])  # type: ignore[misc]
            seconds.setdefault((name, "put"), []).append(puts)
            seconds.setdefault((name, "get"), []).append(gets)
        sides.reverse()
    total_mib = number * num_bytes / 2**20
    for op in ("put", "get"):
        rates = {}
        for name in ("tracemend", "minio-py"):
            taken = seconds[name, op]
            rates[name] = total_mib / statistics.median(wall for wall, _ in taken)
            cpu = statistics.median(cpu for _, cpu in taken) / total_mib
            print(f"{num_bytes >> 20} MiB {op}: {name:>9} {rates[name]:7.0f} MiB/s, {cpu * 1e3:.1f} ms of CPU per MiB")
        print(f"{num_bytes >> 20} MiB {op}: ratio {rates['tracemend'] / rates['minio-py']:.2f}", flush=True)


async def main() -> None:
    bucket = Bucket(settings_of(f"s3:tracemend-bench-{secrets.token_hex(6)}"))
    name = bucket.settings.bucket
    await bucket.run("make", lambda: bucket.client.make_bucket(name))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {AT_ONCE} transfers at once, {NUM_ROUNDS} rounds")
    try:
        for num_bytes, number in SIZES:
            await measure(S3Store(bucket), Raw(bucket), num_bytes, number)
    finally:
        for found in bucket.client.list_objects(name, recursive=True):
            bucket.client.remove_object(name, found.object_name)
        bucket.client.remove_bucket(name)
        bucket.close()


if __name__ == "__main__":
    asyncio.run(main())
