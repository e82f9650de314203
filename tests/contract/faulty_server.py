"""A chat-completions endpoint on loopback that misbehaves on demand: a fake at the far side of a real connection."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Endpoint:
    """Scripted answers, used up one per request; the last one stays. Counts what it saw."""

    answers: list[Answer]
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    num_active: int = 0
    most_active: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        self.seen[request.path] += 1
        self.num_active += 1
        self.most_active = max(self.most_active, self.num_active)
        try:
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            return await answer(request)
        finally:
            self.num_active -= 1


@asynccontextmanager
async def serving(*answers: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Endpoint]:
    """An endpoint on a free loopback port, down again at the end."""
    endpoint = Endpoint(answers=list(answers))
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", endpoint.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    assert runner.addresses
    endpoint.url = f"openai:tiny@{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield endpoint
    finally:
        await runner.cleanup()


def good(
    content: Any = "fine", *, finish: str | None = "stop", after_s: float = 0.0, extra: dict[str, Any] | None = None
) -> Answer:
    """A well-formed completion; `extra` are more fields of its message."""
    message = {"role": "assistant", "content": content} | (extra or {})
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return reply({"choices": [choice], "usage": {"prompt_tokens": 11, "completion_tokens": 3}}, after_s=after_s)


def reply(body: Any, *, status: int = 200, after_s: float = 0.0, headers: dict[str, str] | None = None) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(after_s)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=content, headers=headers, content_type="application/json")

    return answer


def error(status: int, *, headers: dict[str, str] | None = None, quote: bool = True, **fields: Any) -> Answer:
    """An error that quotes the prompt in its message, as real ones do."""

    async def answer(request: web.Request) -> web.StreamResponse:
        words = (await request.text()) if quote else ""
        return web.json_response({"error": {"message": f"bad: {words}", **fields}}, status=status, headers=headers)

    return answer


def cut_short() -> Answer:
    """Promises a body and closes the connection in its middle."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"choices": [{"mess')
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


def hangs_up() -> Answer:
    """Closes the connection without a word."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    return answer


def redirects(to: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": to})

    return answer


def throttles_above(most: int, endpoint_of: Callable[[], Endpoint]) -> Answer:
    """Good up to `most` requests at once, 429 beyond."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if endpoint_of().num_active > most:
            return web.json_response({"error": {"message": "slow"}}, status=429, headers={"Retry-After": "0.05"})
        await asyncio.sleep(0.02)
        return await good()(request)

    return answer
