"""What a cluster needs before its services can work: `python -m tracemend.programs.setup --target NAME …`.

The chart runs it in a Job for every revision. Makes the ledger's tables, the topics of the targets and, where it is
asked to, the bucket, and leaves alone what is there. Servers that do not answer yet are waited for.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.secrets import secret_of
from tracemend.runtime.opening import open_server_tables, open_topic_keeper
from tracemend.runtime.stores import make_bucket
from tracemend.topics import of_targets

_WAIT_S = 300.0
_AGAIN_S = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up; 0, or 2 with one message where something must be changed first."""
    parser = argparse.ArgumentParser(prog="tracemend.programs.setup", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", action="append", default=[], metavar="NAME", help="a served target; once for each")
    parser.add_argument("--replication", type=int, default=3, help="brokers that keep each record")
    parser.add_argument("--min-isr", type=int, default=2, help="how many must have it before it counts as written")
    parser.add_argument("--make-bucket", action="store_true", help="make the store's bucket where it is missing")
    parser.add_argument("--wait", type=float, default=_WAIT_S, metavar="SECONDS", help="for servers to answer")
    try:
        asyncio.run(_set_up(parser.parse_args(arguments)))
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


async def _set_up(options: argparse.Namespace) -> None:
    ledger, store, bus = (_given(name) for name in ("TRACEMEND_LEDGER", "TRACEMEND_STORE", "TRACEMEND_BUS"))

    async def make_tables() -> Sequence[str]:
        tables = await asyncio.to_thread(open_server_tables, ledger)
        await tables.aclose()
        return ()

    async def make_topics() -> Sequence[str]:
        keeper = open_topic_keeper(bus, replication=options.replication, min_isr=options.min_isr)
        try:
            return list(await keeper.apply(of_targets(options.target)))
        finally:
            await keeper.aclose()

    ends_s = time.monotonic() + options.wait
    await _once("the ledger's tables", make_tables, ends_s)
    if options.make_bucket:
        await _once("the bucket", lambda: make_bucket(store), ends_s)
    await _once("the topics", make_topics, ends_s)


async def _once(what: str, make: Callable[[], Awaitable[Sequence[str]]], ends_s: float) -> None:
    """Make it as soon as its server answers."""
    while True:
        try:
            for line in await make():
                print(line, flush=True)
        except (Retry, SetupError) as error:  # a server that is not there yet is a mistake to its client
            if time.monotonic() >= ends_s:
                raise SetupError(f"{what}: {error}") from None
            print(f"{what}: {error}; again in {_AGAIN_S:.0f} s", file=sys.stderr, flush=True)
            await asyncio.sleep(_AGAIN_S)
        else:
            print(f"{what}: ready", flush=True)
            return


def _given(name: str) -> str:
    value = secret_of(name, os.environ).reveal()
    if not value:
        raise SetupError(f"set {name}, or {name}_FILE")
    return value


if __name__ == "__main__":
    sys.exit(main())
