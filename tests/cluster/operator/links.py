"""The way of an operator to its API server, which a test can cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import yaml


@dataclass
class Link:
    """Passes connections on to `target` while it is up, always at the same port."""

    target: tuple[str, int]
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection(*self.target)
        ends = {writer, back_writer}
        self._open |= ends
        await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))
        self._open -= ends


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while content := await reader.read(65536):
            writer.write(content)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def open_link(kubeconfig: str, folder: Path) -> AsyncIterator[tuple[Link, str]]:
    """A link to the API server of `kubeconfig`, and a kubeconfig that leads through it."""
    config = yaml.safe_load(Path(kubeconfig).read_text(encoding="utf-8"))
    cluster = config["clusters"][0]["cluster"]
    address = urlsplit(cluster["server"])
    link = Link(target=(str(address.hostname), address.port or 443))
    await link.up()
    # The server's certificate is for its own address.
    del cluster["certificate-authority-data"]
    cluster |= {"server": f"https://127.0.0.1:{link.port}", "insecure-skip-tls-verify": True}
    path = folder / "through-link.kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    try:
        yield link, str(path)
    finally:
        await link.down()
