"""A proxy before an S3 server that answers wrongly on demand: what a load balancer or a network does to clients.

It hands requests on byte for byte, so that signatures stay right. `mood` is looked at for each request: `fair`, `busy`
(503 SlowDown, nothing is handed on) or `deaf` (the server does what is asked, and the answer is lost).
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, web
from yarl import URL

_SLOW_DOWN = "<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
_OF_CONNECTIONS = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})


@dataclass
class S3Proxy:
    """`endpoint` is where clients go."""

    upstream: str
    random: random.Random
    endpoint: str = ""
    mood: str = "fair"
    share: float = 0.3
    """Of requests that a bad mood befalls."""
    num_befallen: dict[str, int] = field(default_factory=dict)
    _session: ClientSession | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        mood = self.mood if self.random.random() < self.share else "fair"
        if mood != "fair":
            self.num_befallen[mood] = self.num_befallen.get(mood, 0) + 1
        body = await request.read()
        if mood == "busy":
            return web.Response(status=503, text=_SLOW_DOWN, content_type="application/xml")
        url = URL(self.upstream + request.raw_path, encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_CONNECTIONS}
        try:
            answer, content = await self._ask(request.method, url, body, headers)
        except ClientError:  # the server is gone, or the way to it: so is this connection
            mood, answer, content = "deaf", None, b""
        if mood == "deaf" or answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=500)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OF_CONNECTIONS}
        if request.method == "HEAD":
            kept["Content-Length"] = answer.headers.get("Content-Length", "0")
        return web.Response(status=answer.status, body=content, headers=kept)

    async def _ask(
        self, method: str, url: URL, body: bytes, headers: Mapping[str, str]
    ) -> tuple[ClientResponse, bytes]:
        assert self._session is not None
        async with self._session.request(method, url, data=body, headers=headers) as answer:
            return answer, await answer.read()


@contextlib.asynccontextmanager
async def proxied(upstream: str, seed: int) -> AsyncIterator[S3Proxy]:
    """A proxy before the server at `upstream`."""
    proxy = S3Proxy(upstream=upstream.rstrip("/"), random=random.Random(seed))
    app = web.Application(client_max_size=2**28)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, auto_decompress=False)
    async with ClientSession(timeout=ClientTimeout(total=60), auto_decompress=False) as session:
        proxy._session = session
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield proxy
        finally:
            await runner.cleanup()
