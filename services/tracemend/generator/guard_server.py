"""The guard as an OpenAI-compatible server in front of one engine.

    POST /v1/chat/completions   GET /v1/models   GET /v1/models/ID   GET /health   GET /metrics

Composed by `embedded.guarding`, started by `tracemend guard serve`. Invariants: nothing that the guard has not cleared
leaves the process; a client that goes away, a timeout and a stop of the server end the engine's work on the response;
the number of responses under way and in line is bounded; logs and errors hold no text of prompts or replies.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tracemend.generator.guard_chat import ApiError, ChatCall, Reply, read_call
from tracemend.generator.guard_http import (
    HANDLERS,
    SETUP_TROUBLE,
    Door,
    api_error,
    begin_events,
    end_events,
    read_body,
    response_of,
    send_event,
    until_gone,
)
from tracemend.generator.guard_metrics import GuardMetrics
from tracemend.generator.guarding import Assignment, Guard, Guarded, Piece, needed_template
from tracemend.kit.errors import SetupError, TracemendError
from tracemend.kit.ids import make_id
from tracemend.kit.ports import TextModel
from tracemend.kit.settings import SamplingSettings, Section
from tracemend.records import Category, Prompt
from tracemend.redaction import Text
from tracemend.traces.template import ChatTemplate

_FAREWELL_S = 10
"""For replies under way when the server is told to stop."""


class ServerSettings(Section):
    """Limits and defaults of one server."""

    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    """For what a request leaves open; its `max_new_tokens` is also the longest response that anybody gets."""
    max_running: int = Field(32, ge=1)
    """Responses written at once."""
    max_waiting: int = Field(256, ge=0)
    """Requests in line behind them; one more is told to come back (429)."""
    max_body_bytes: int = Field(1_048_576, ge=1)
    body_timeout_s: float = Field(30.0, gt=0)
    """For the whole body of a request to arrive."""
    timeout_s: float = Field(600.0, gt=0)
    """For a response, time in line included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a server serves."""

    name: str
    """The model's name for clients."""
    model: TextModel
    template: ChatTemplate | None
    guard: Guard
    mode: str


def build_app(served: Served, settings: ServerSettings, *, api_key: str = "") -> ASGIApp:
    """The server as an ASGI application. With an `api_key`, `/v1` wants it as a bearer token. Raises `SetupError` where
    the engine gives no token ids, or the key is blank."""
    if api_key and not api_key.strip():
        raise SetupError("the server's API key is blank: set one, or none")
    desk = _Desk(served, settings)
    routes = [
        Route("/v1/chat/completions", desk.chat, methods=["POST"]),
        Route("/v1/models", desk.models, methods=["GET"]),
        Route("/v1/models/{name:path}", desk.named_model, methods=["GET"]),
        Route("/health", desk.health, methods=["GET"]),
        Route("/metrics", desk.exposition, methods=["GET"]),
    ]
    return Door(Starlette(routes=routes, exception_handlers=HANDLERS), desk.metrics, api_key=api_key.strip())


class _Desk:
    """The endpoints."""

    def __init__(self, served: Served, settings: ServerSettings) -> None:
        self._served = served
        self._settings = settings
        self._template = needed_template(served.model, served.template)
        self._slots = asyncio.Semaphore(settings.max_running)
        self._num_under_way = 0
        self._started = int(time.time())
        self._is_broken = False
        """The last response ended because engine or detector cannot work as they are."""
        self.metrics = GuardMetrics()

    async def health(self, request: Request) -> Response:
        """503 once nothing can be written until somebody mends the set-up or starts the server anew."""
        about = {"model": self._served.name, "mode": self._served.mode}
        if self._is_broken:
            return JSONResponse({"status": "broken", **about, "detail": SETUP_TROUBLE}, status_code=503)
        return JSONResponse({"status": "ok", **about})

    async def exposition(self, request: Request) -> Response:
        return PlainTextResponse(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def named_model(self, request: Request) -> Response:
        self._check_name(request.path_params["name"])
        return JSONResponse(self._model())

    async def chat(self, request: Request) -> ASGIApp:
        limits = self._settings
        content = await read_body(request, max_bytes=limits.max_body_bytes, timeout_s=limits.body_timeout_s)
        call = read_call(content, defaults=self._settings.sampling)
        self._check_name(call.model)
        return _Answer(self, call, self._assignment(call))

    @contextmanager
    def place(self) -> Iterator[None]:
        """Be one of those under way or in line; `ApiError` where there is no room."""
        if self._num_under_way >= self._settings.max_running + self._settings.max_waiting:
            raise ApiError(429, "too many requests under way; try again later", code="busy", after_s=1)
        self._count(+1)
        try:
            yield
        finally:
            self._count(-1)

    @asynccontextmanager
    async def writing(self, assignment: Assignment) -> AsyncIterator[AsyncGenerator[Piece | Guarded, None]]:
        """The pieces of one response, once it is its turn; leaving the block ends the engine's work on it."""
        served = self._served
        async with asyncio.timeout(self._settings.timeout_s), self._slots:
            pieces = self._counted(served.guard.write(assignment, model=served.model, template=self._template))
            try:
                async with aclosing(pieces):
                    yield pieces
            except SetupError:
                self._is_broken = True
                raise

    async def _counted(self, pieces: AsyncGenerator[Piece | Guarded, None]) -> AsyncGenerator[Piece | Guarded, None]:
        began_s = time.monotonic()
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, Guarded):
                    self._is_broken = False
                    seconds = time.monotonic() - began_s
                    self.metrics.response(piece.tally, num_tokens=len(piece.token_ids), seconds=seconds)
                yield piece

    def reply(self, assignment: Assignment) -> Reply:
        """The writer of one reply's bodies."""
        return Reply(
            id=f"chatcmpl-{secrets.token_hex(12)}",
            created=int(time.time()),
            model=self._served.name,
            guard=self._served.guard.identity,
            mode=self._served.mode,
            num_prompt_tokens=len(assignment.prompt_tokens),
        )

    def _assignment(self, call: ChatCall) -> Assignment:
        asked = Text("\n\n".join(words.reveal() for role, words in call.turns if role == "user"))
        try:
            prompt_tokens = self._template.conversation_tokens(call.turns)
        except SetupError:
            roles = "the model's chat template does not take these roles in this order"
            raise ApiError(422, roles, code="conversation_refused", param="messages") from None
        return Assignment(
            prompt=Prompt(id=make_id("prompt", asked), text=asked, category=Category.HARMFUL, source="guard"),
            prompt_tokens=prompt_tokens,
            sampling=call.sampling,
            seed=secrets.randbits(63) if call.seed is None else call.seed % 2**63,
        )

    def _check_name(self, name: str) -> None:
        if name != self._served.name:
            known = f"this server has one model, '{self._served.name}'"
            raise ApiError(404, f"no such model; {known}", code="model_not_found", param="model")

    def _model(self) -> dict[str, Any]:
        return {"id": self._served.name, "object": "model", "created": self._started, "owned_by": "tracemend"}

    def _count(self, change: int) -> None:
        self._num_under_way += change
        self.metrics.busy(self._num_under_way)


class _Answer:
    """The reply to one chat request: an ASGI application, so that it sees the client leave while it works."""

    def __init__(self, desk: _Desk, call: ChatCall, assignment: Assignment) -> None:
        self._desk = desk
        self._call = call
        self._assignment = assignment
        self._reply = desk.reply(assignment)
        self._has_begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._desk.place():
            await until_gone(receive, self._write(scope, receive, send))

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Errors before the first word have a status of their own; later ones end the stream as an event."""
        try:
            async with self._desk.writing(self._assignment) as pieces:
                if self._call.is_streamed:
                    await self._stream(pieces, send)
                else:
                    await self._whole(pieces, scope, receive, send)
        except (TracemendError, TimeoutError) as error:
            told = api_error(error)
            if not self._has_begun:
                await response_of(told)(scope, receive, send)
                return
            await send_event(send, told.body())
            await end_events(send)

    async def _whole(
        self, pieces: AsyncGenerator[Piece | Guarded, None], scope: Scope, receive: Receive, send: Send
    ) -> None:
        shown: list[Piece] = []
        async for piece in pieces:
            if isinstance(piece, Piece):
                shown.append(piece)
                continue
            await JSONResponse(self._reply.whole(shown, piece))(scope, receive, send)

    async def _stream(self, pieces: AsyncGenerator[Piece | Guarded, None], send: Send) -> None:
        async for piece in pieces:
            await self._begin(send)
            if isinstance(piece, Piece):
                await send_event(send, self._reply.chunk(piece))
                continue
            await send_event(send, self._reply.closing(piece))
            if self._call.wants_usage:
                await send_event(send, self._reply.usage_chunk(piece))
        await end_events(send)

    async def _begin(self, send: Send) -> None:
        if not self._has_begun:
            self._has_begun = True
            await begin_events(send)
            await send_event(send, self._reply.opening())


def bind(host: str, port: int) -> socket.socket:
    """A socket at that address, before anything slow is done; port 0 takes a free one. `SetupError` if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, UnicodeError) as error:
        bound.close()
        raise SetupError(f"cannot listen on {host} port {port}: {error}; choose another --port or --host") from None
    return bound


async def serve(app: ASGIApp, bound: socket.socket, *, announce: Callable[[str], None]) -> None:
    """Serve `app` until SIGINT or SIGTERM; `announce` gets the address once it listens."""
    import uvicorn

    # Its own log would print messages of errors, which may quote text; what went wrong is logged by `guard_http`.
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="critical",
        server_header=False,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=_FAREWELL_S,
    )
    bound.listen(config.backlog)
    host, port = bound.getsockname()[:2]
    announce(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    for number in (signal.SIGINT, signal.SIGTERM):  # the server raises them again once it has ended
        signal.signal(number, _nothing)
    await uvicorn.Server(config).serve(sockets=[bound])


def _nothing(number: int, frame: Any) -> None:
    """The server has already done what the signal asks for."""
