"""A TCP proxy that cuts connections: what a bad network does to a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class CuttingProxy:
    """Where it listens, and how often it has cut."""

    address: str = ""
    cut_after_bytes: list[int] = field(default_factory=list)
    """For each connection in turn, how much of what the client sends is passed on before the cut; afterwards all."""
    num_cuts: int = 0


@asynccontextmanager
async def cutting_proxy(target: str, *, cut_after_bytes: list[int]) -> AsyncIterator[CuttingProxy]:
    """Pass connections on to `target` (HOST:PORT) until the end of the block."""
    proxy = CuttingProxy(cut_after_bytes=list(cut_after_bytes))
    host, _, port = target.rpartition(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limit = proxy.cut_after_bytes.pop(0) if proxy.cut_after_bytes else None
        back_reader, back_writer = await asyncio.open_connection(host, int(port))
        back = asyncio.create_task(_pass(back_reader, writer, None))
        with suppress(ConnectionError):
            if await _pass(reader, back_writer, limit):
                proxy.num_cuts += 1
        for one in (writer, back_writer):
            one.transport.abort()
        await asyncio.gather(back, return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> bool:
    """Copy until the end, or until `limit` bytes were copied: then True."""
    num_bytes = 0
    while content := await reader.read(65536):
        writer.write(content)
        await writer.drain()
        num_bytes += len(content)
        if limit is not None and num_bytes >= limit:
            return True
    return False
