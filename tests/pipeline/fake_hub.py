"""As much of the Hugging Face Hub as an upload needs, on loopback: it keeps what it is sent."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Hub:
    """What the hub holds. `url` is for HF_ENDPOINT."""

    url: str = ""
    private: dict[str, bool] = field(default_factory=dict)
    """`model/OWNER/NAME` or `dataset/OWNER/NAME` to whether it is private."""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    """What callers showed to be let in."""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON."""
        parts = path.partition("?")[0].strip("/").split("/")
        if (method, parts) == ("POST", ["api", "repos", "create"]):
            return self._create(json.loads(body))
        if parts[:2] == ["api", "validate-yaml"]:
            return 200, {"errors": [], "warnings": []}
        if parts[0] != "api" or parts[1] not in ("models", "datasets"):
            return 404, {"error": f"the fake hub knows no {method} {path}"}
        name = f"{parts[1].removesuffix('s')}/{parts[2]}/{parts[3]}"
        if name not in self.private:
            return 404, {"error": "no such repository"}
        return self._of_repository(name, parts[4:], body)

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        owner_name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        kind = asked.get("type") or "model"
        known = f"{kind}/{owner_name}" in self.private
        self.private.setdefault(
            f"{kind}/{owner_name}", bool(asked.get("private")) or asked.get("visibility") == "private"
        )
        self.files.setdefault(f"{kind}/{owner_name}", {})
        address = self._address(f"{kind}/{owner_name}")
        return (409 if known else 200), {"url": address, "name": owner_name, "id": owner_name}

    def _address(self, name: str) -> str:
        kind, _, owner_name = name.partition("/")
        return f"{self.url}/{'datasets/' if kind == 'dataset' else ''}{owner_name}"

    def _of_repository(self, name: str, rest: list[str], body: bytes) -> tuple[int, Any]:
        if rest[:1] == ["preupload"]:
            asked = json.loads(body)["files"]
            return 200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
        if rest[:1] == ["commit"]:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return 200, {"commitUrl": f"{self._address(name)}/commit/c", "commitOid": "c" * 40, "pullRequestUrl": None}
        _, owner, short = name.split("/")
        return 200, {
            "id": f"{owner}/{short}",
            "private": self.private[name],
            "sha": "0" * 40,
            "siblings": [],
            "tags": [],
        }


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub that runs until the block ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.tokens.add(self.headers.get("Authorization", ""))
            status, answer = hub.answer(self.command, self.path, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:  # the names that http.server looks for
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
