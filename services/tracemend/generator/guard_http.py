"""HTTP around the guard server: the door with its key, bodies in bounds, streams of events, errors in OpenAI's form.

Called by `guard_server`, which knows what is served.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import math
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracemend.generator.guard_chat import ApiError
from tracemend.generator.guard_metrics import GuardMetrics
from tracemend.kit.errors import Reject, Retry, TracemendError

log = structlog.get_logger()

_GONE = 499
"""Counted where the client left before the reply began; nobody receives it."""
SETUP_TROUBLE = "the server is not set up well; its log says how"
"""All that clients are told of a `SetupError`."""
_PATHS = frozenset({"/v1/chat/completions", "/v1/models", "/health", "/metrics"})


class Door:
    """In front of all endpoints: the key, and the count of what went out."""

    def __init__(self, app: ASGIApp, metrics: GuardMetrics, *, api_key: str) -> None:
        self._app = app
        self._metrics = metrics
        self._key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _GONE

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        known = scope["path"] if scope["path"] in _PATHS else "other"
        try:
            if self._is_let_in(scope):
                await self._app(scope, receive, counted)
            else:
                told = ApiError(401, "the API key is missing or wrong", code="invalid_api_key")
                await response_of(told)(scope, receive, counted)
        except ClientDisconnect:
            status = _GONE
        finally:
            self._metrics.request(known, status)

    def _is_let_in(self, scope: Scope) -> bool:
        if not self._key or not scope["path"].startswith("/v1/"):
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, key = given.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._key)


# bodies, errors, clients that leave -----------------------------------------------------------------


async def read_body(request: Request, *, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body; `ApiError` where it is too large or too slow."""
    too_large = ApiError(413, f"the body is larger than {max_bytes:,} bytes", code="body_too_large")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > max_bytes:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                content += chunk
                if len(content) > max_bytes:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, "the body did not arrive in time", code="body_timeout") from None
    return bytes(content)


async def until_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, or give it up when the client leaves."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def begin_events(send: Send) -> None:
    """Begin a stream of server-sent events."""
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def send_event(send: Send, body: Mapping[str, Any]) -> None:
    """One event of a stream."""
    content = f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()
    await send({"type": "http.response.body", "body": content, "more_body": True})


async def end_events(send: Send) -> None:
    """The last event, as OpenAI's clients wait for it."""
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


def api_error(error: TracemendError | TimeoutError) -> ApiError:
    """How a client is told of an error of engine, detector or clock."""
    match error:
        case Retry():
            message = "the engine or the detector is not ready; try again later"
            return ApiError(503, message, code=error.reason, after_s=error.after_s)
        case Reject(reason="prompt_too_long"):
            return ApiError(400, error.detail, code="context_length_exceeded", param="messages")
        case Reject():
            return ApiError(422, "the engine refused the request", code=error.reason)
        case TimeoutError():
            return ApiError(503, "the response took too long", code="timeout", after_s=1)
        case _:
            log.error("the server is not set up well", error=str(error))
            return ApiError(500, SETUP_TROUBLE, code="setup")


def response_of(error: ApiError) -> Response:
    """The reply that says `error`."""
    headers = {"retry-after": str(math.ceil(error.after_s))} if error.after_s else {}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error.body(), status_code=error.status, headers=headers)


async def _told(request: Request, error: ApiError) -> Response:
    return response_of(error)


async def _told_http(request: Request, error: HTTPException) -> Response:
    """404 and 405 of the routing."""
    return response_of(
        ApiError(error.status_code, str(error.detail), code="not_found" if error.status_code == 404 else "")
    )


async def _told_bug(request: Request, error: Exception) -> Response:
    log.error("a request broke the server's code", exc_info=error)
    return response_of(ApiError(500, "an internal error; the server's log says where", code="internal_error"))


async def _told_gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=_GONE)


HANDLERS: dict[Any, Any] = {
    ApiError: _told,
    HTTPException: _told_http,
    ClientDisconnect: _told_gone,
    Exception: _told_bug,
}
"""What Starlette calls for errors that the endpoints raise."""
