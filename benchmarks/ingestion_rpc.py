"""Durable ingestion over gRPC against a sink that discards: what making uploads durable costs.

    python -m benchmarks.ingestion_rpc [--prompts 100000] [--rounds 3] [--database postgresql://… --store s3:…]

One client uploads 1 KB prompts to a server process, through the same chain of interceptors, in alternating rounds: to
the ingestion service, whose chunks are in the store and the database before they are acknowledged, and to a service
that reads and counts. Prints prompts per second of both and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tracemend.client import AsyncClient, PromptRow
from tracemend.records import Category
from tracemend.redaction import Text

_PROMPT_BYTES = 1000


class DiscardingDesk:
    """Takes a stream as `UploadDesk` does, counts its chunks and drops them."""

    async def receive(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb

        await anext(requests)
        yield pb.Upload()
        num_chunks = 0
        async for request in requests:
            if request.WhichOneof("part") == "end":
                yield pb.Upload(next_sequence=num_chunks, num_rows=request.end.num_rows, complete=True)
                return
            num_chunks += 1
            if num_chunks % 16 == 0:
                yield pb.Upload(next_sequence=num_chunks)


async def serve(kind: str, folder: Path, database: str, store: str) -> None:
    """Serve until standard input is closed; prints the address first."""
    from tests.ingestion_server import ingestion

    from tracemend.runtime.opening import open_store

    kept = open_store(store) if store else None
    desk = DiscardingDesk() if kind == "discard" else None
    async with ingestion(folder, database=database, store=kept, desk=desk) as served:
        print(served.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)


@asynccontextmanager
async def server(kind: str, folder: Path, options: argparse.Namespace) -> AsyncIterator[str]:
    """The address of a server process of `kind`."""
    arguments = ["-m", "benchmarks.ingestion_rpc", "--serve", kind, "--folder", str(folder)]
    arguments += ["--database", options.database, "--store", options.store]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


def prompts(number: int) -> Iterator[PromptRow]:
    body = "x" * (_PROMPT_BYTES - 8)
    return (PromptRow(text=Text(f"{n:08}{body}"), category=Category.HARMFUL, source="bench") for n in range(number))


async def one_round(address: str, number: int) -> float:
    """Prompts per second of one upload."""
    plan = json.dumps({"name": f"bench-{uuid.uuid4().hex[:8]}", "target": "tiny"}).encode()
    async with AsyncClient(address) as client:
        run = await client.begin(plan)
        rows = list(prompts(number))
        began = time.perf_counter()
        done = await run.upload(rows)
        took_s = time.perf_counter() - began
        assert done.is_complete
        assert done.num_rows == number
        return number / took_s


async def measure(options: argparse.Namespace) -> None:
    rates: dict[str, list[float]] = {"discard": [], "durable": []}
    with tempfile.TemporaryDirectory() as folder:
        for kind in rates:
            (Path(folder) / kind).mkdir()
        async with (
            server("discard", Path(folder) / "discard", options) as discarding,
            server("durable", Path(folder) / "durable", options) as durable,
        ):
            for _ in range(options.rounds):
                for kind, address in (("discard", discarding), ("durable", durable)):
                    rates[kind].append(await one_round(address, options.prompts))
    for kind, found in rates.items():
        print(f"{kind}: {median(found):,.0f} prompts/s  (" + ", ".join(f"{rate:,.0f}" for rate in found) + ")")
    print(f"durable / discard: {median(rates['durable']) / median(rates['discard']):.2f}")
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{options.prompts:,} prompts of {_PROMPT_BYTES} bytes; {machine}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", default="", help="URL; SQLite in the folder without it")
    parser.add_argument("--store", default="", help="URL; the folder without it")
    parser.add_argument("--serve", choices=("durable", "discard"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.folder, options.database, options.store))
    else:
        asyncio.run(measure(options))


if __name__ == "__main__":
    main()
