"""The port for probes and scrapes, served by a thread of its own: it answers while the event loop is blocked.

    GET /healthz   200 while the event loop turns, whatever has become of dependencies: only a restart helps if not
    GET /readyz    200 while the service can do its work: started, everything it needs answers, not draining
    GET /metrics   the Prometheus exposition

Composed by `program`. It serves the network of a cluster without authentication, so answers hold names, states and
numbers alone.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tracemend.kit.errors import SetupError

_TIMEOUT_S = 10
"""For a client to send its request, and to take the answer."""
_MAX_CONNECTIONS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a path answers."""

    status: HTTPStatus
    content: bytes
    content_type: str = "application/json"

    @classmethod
    def of(cls, *, is_good: bool, told: Mapping[str, Any]) -> Answer:
        """A probe's answer: 200 or 503, and `told` as JSON."""
        status = HTTPStatus.OK if is_good else HTTPStatus.SERVICE_UNAVAILABLE
        return cls(status=status, content=json.dumps(told).encode() + b"\n")


class ProbeServer:
    """Answers `GET`s of known paths until closed. The functions of `paths` are called on threads of the server."""

    def __init__(self, paths: Mapping[str, Callable[[], Answer]], *, host: str, port: int) -> None:
        try:
            self._server = _Server((host, port), _handler(paths))
        except OSError as error:
            raise SetupError(
                f"http: cannot listen on {host}:{port} ({error.strerror}); set TRACEMEND_HTTP_PORT to a free port"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="probes", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = _MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:  # one thread each: whoever opens more connections than that is turned away
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's trouble, and a traceback would quote its request."""


def _handler(paths: Mapping[str, Callable[[], Answer]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT_S
        server_version, sys_version = "tracemend", ""

        def do_GET(self) -> None:
            self._answer(with_content=True)

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def _answer(self, *, with_content: bool) -> None:
            function = paths.get(self.path.partition("?")[0])
            nothing = Answer(status=HTTPStatus.NOT_FOUND, content=b"not found\n", content_type="text/plain")
            answer = function() if function is not None else nothing
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.content)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            if with_content:
                self.wfile.write(answer.content)

        def log_message(self, format: str, *args: Any) -> None:
            """Probes come every few seconds, and a request line is whatever a client sent."""

    return Handler
