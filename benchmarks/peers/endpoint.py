"""An OpenAI-compatible endpoint that answers at once, and a raw client that measures how fast that is.

    python -m benchmarks.peers.endpoint serve [--processes 2]

Prints its port and serves until standard input is closed. The answer is made of the prompt, so that every row can be
checked; several processes may share the port.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PATH = "/v1/chat/completions"
_MOST_BYTES = 2**20
_IN_FLIGHT = 64
_READY = "ready\n"


def answer_to(prompt: str) -> str:
    """What the endpoint says to `prompt`."""
    return f"Answer to: {prompt}"


async def _complete(request: Any) -> Any:
    from aiohttp import web

    body = json.loads(await request.read())
    messages = body.get("messages") or [{"content": ""}]
    content = messages[-1]["content"]
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    reply = {
        "id": "chatcmpl-null",
        "object": "chat.completion",
        "created": 1,
        "model": body.get("model", "null"),
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer_to(content)}}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20},
    }
    return web.Response(body=json.dumps(reply).encode(), content_type="application/json")


async def _serve(listening: socket.socket) -> None:
    from aiohttp import web

    app = web.Application(client_max_size=_MOST_BYTES)
    app.router.add_post(_PATH, _complete)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listening, backlog=4096).start()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind(("127.0.0.1", port))
    return listening


@contextmanager
def serving(processes: int) -> Iterator[str]:
    """The base URL of the endpoint in processes of its own, until the body ends."""
    with _listen(0) as held:  # bound, not listening: it keeps the port and gets no connection
        port = held.getsockname()[1]
        command = [sys.executable, "-m", "benchmarks.peers.endpoint", "serve", "--port", str(port)]
        servers = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(processes)]
        try:
            for _ in servers:
                _await_port(port)
            time.sleep(1.0)  # the other processes share the port, so none can be asked for by itself
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            for server in servers:
                server.communicate()


def _await_port(port: int, *, within_s: float = 60.0) -> None:
    ends = time.monotonic() + within_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)


async def _load(url: str, prompts: list[str]) -> float:
    """Requests per second over keep-alive connections, each request written and each reply checked by hand."""
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    waiting = iter(prompts)

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for prompt in waiting:
            body = json.dumps({"model": "null", "messages": [{"role": "user", "content": prompt}]}).encode()
            head = f"POST {_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            headers = await reader.readuntil(b"\r\n\r\n")
            length = int(headers.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            reply = await reader.readexactly(length)
            assert headers.startswith(b"HTTP/1.1 200"), headers.split(b"\r\n", 1)[0]
            assert json.dumps(answer_to(prompt)).encode() in reply
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one_connection() for _ in range(_IN_FLIGHT)))
    return len(prompts) / (time.perf_counter() - began)


def ceiling(url: str, prompts: list[str], *, clients: int) -> float:
    """Requests per second of `clients` raw clients that begin together, each in its own process: all that they asked
    over the time of the slowest."""
    command = [sys.executable, "-m", "benchmarks.peers.endpoint", "load", "--url", url]
    loads = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(clients)
    ]
    for load in loads:
        _tell(load, json.dumps(prompts))
    for load in loads:
        assert load.stdout is not None
        if load.stdout.readline() != _READY:
            raise RuntimeError("a raw client did not start")
    for load in loads:
        _tell(load, "go")
    return clients * min(float(load.communicate()[0]) for load in loads)


def _tell(load: subprocess.Popen[str], line: str) -> None:
    assert load.stdin is not None
    load.stdin.write(line + "\n")
    load.stdin.flush()


def _load_when_told(url: str) -> float:
    prompts = json.loads(sys.stdin.readline())
    sys.stdout.write(_READY)
    sys.stdout.flush()
    sys.stdin.readline()
    return asyncio.run(_load(url, prompts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("serve", "load"))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--url", default="")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.what == "serve":
        asyncio.run(_serve(_listen(options.port)))
    else:
        print(_load_when_told(options.url))


if __name__ == "__main__":
    main()
