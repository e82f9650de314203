"""An S3 server on loopback that keeps objects in memory and misbehaves on demand: the far side of a real connection.

It checks no signatures. `faults` are used up one per object request of the method that they are for; afterwards it
behaves.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from tracemend.adapters.s3_bucket import Bucket
from tracemend.adapters.s3_settings import S3Settings
from tracemend.adapters.s3_store import S3Store
from tracemend.kit.secrets import Secret

BUCKET = "kept"
Fault = Callable[["FaultyS3", web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FaultyS3:
    host: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    modified: dict[str, datetime] = field(default_factory=dict)
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    num_active: int = 0
    most_active: int = 0

    def will(self, method: str, *faults: Fault) -> None:
        self.faults[method].extend(faults)

    def count(self, method: str, part: str = "") -> int:
        return sum(method == each and part in path for each, path in self.requests)

    def store(self, **changed: Any) -> S3Store:
        """A store on this server, with little patience."""
        settings: dict[str, Any] = {"num_attempts": 3, "patience_s": 20.0, "read_timeout_s": 0.5} | changed
        return S3Store(
            Bucket(
                S3Settings(
                    bucket=BUCKET, host=self.host, secure=False, access_key="a", secret_key=Secret("b"), **settings
                )
            )
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        self.headers.append(dict(request.headers))
        self.num_active += 1
        self.most_active = max(self.most_active, self.num_active)
        try:
            _, bucket, *name = request.path.split("/", 2)
            if bucket != BUCKET:
                return error(404, "NoSuchBucket")
            if not name or not name[0]:
                return web.Response(text=self.listing(request.query.get("prefix", "")), content_type="application/xml")
            if self.faults[request.method]:
                return await self.faults[request.method].popleft()(self, request)
            return await self.behave(request)
        finally:
            self.num_active -= 1

    async def behave(self, request: web.Request) -> web.StreamResponse:
        name = request.path.split("/", 2)[2]
        if request.method == "PUT":
            self.objects[name] = await request.read()
            self.modified[name] = datetime.now(UTC)
        elif request.method == "DELETE":
            self.objects.pop(name, None)
            return web.Response(status=204)
        if name not in self.objects:
            return error(404, "NoSuchKey")
        content = self.objects[name]
        headers = {
            "ETag": f'"{hashlib.md5(content).hexdigest()}"',
            "Last-Modified": format_datetime(self.modified[name], usegmt=True),
        }
        return web.Response(body=b"" if request.method == "PUT" else content, headers=headers)

    def listing(self, prefix: str) -> str:
        entries = "".join(
            f"<Contents><Key>{name}</Key><Size>{len(self.objects[name])}</Size>"
            f"<LastModified>{self.modified[name].strftime('%Y-%m-%dT%H:%M:%S.000Z')}</LastModified></Contents>"
            for name in sorted(self.objects)
            if name.startswith(prefix)
        )
        return f"<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"

    def flip(self, name: str) -> None:
        """One bit of a stored object turns."""
        content = self.objects[name]
        self.objects[name] = bytes([content[0] ^ 1]) + content[1:]

    def age(self, name: str, seconds: float) -> None:
        self.modified[name] -= timedelta(seconds=seconds)


@asynccontextmanager
async def serving() -> AsyncIterator[FaultyS3]:
    server = FaultyS3()
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.host = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def error(status: int, code: str, *, date: datetime | None = None) -> web.Response:
    headers = {"Date": format_datetime(date, usegmt=True)} if date else None
    body = f"<Error><Code>{code}</Code><Message>canary words</Message><Resource>/</Resource></Error>"
    return web.Response(status=status, text=body, content_type="application/xml", headers=headers)


def says(status: int, code: str, *, date: datetime | None = None) -> Fault:
    async def answer(_: FaultyS3, __: web.Request) -> web.StreamResponse:
        return error(status, code, date=date)

    return answer


def says_html(status: int) -> Fault:
    """What a proxy says before an S3 server."""

    async def answer(_: FaultyS3, __: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="<html>canary words</html>", content_type="text/html")

    return answer


def does_it_and_hangs_up(server: FaultyS3, request: web.Request) -> Awaitable[web.StreamResponse]:
    """The work is done and nobody hears of it."""
    return _then(server, request, _hang_up)


def does_it_and_falls_silent(server: FaultyS3, request: web.Request) -> Awaitable[web.StreamResponse]:
    return _then(server, request, _silence)


async def hangs_up(_: FaultyS3, request: web.Request) -> web.StreamResponse:
    return await _hang_up(request)


async def breaks_off(server: FaultyS3, request: web.Request) -> web.StreamResponse:
    """Promises an object and closes the connection in its middle."""
    content = server.objects[request.path.split("/", 2)[2]]
    response = web.StreamResponse(headers={"Content-Length": str(len(content))})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    return await _hang_up(request, response)


async def flips_a_bit_on_the_way(server: FaultyS3, request: web.Request) -> web.StreamResponse:
    content = server.objects[request.path.split("/", 2)[2]]
    return web.Response(body=content[:-1] + bytes([content[-1] ^ 1]))


async def _then(
    server: FaultyS3, request: web.Request, end: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    await server.behave(request)
    return await end(request)


async def _hang_up(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return response or web.Response()


async def _silence(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(1.0)
    return web.Response()
