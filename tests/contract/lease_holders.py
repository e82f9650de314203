"""A program that the lease tests start and kill: holds a lease for ever and says so.

python lease_holders.py URL NAME
"""

from __future__ import annotations

import asyncio
import sys

from tracemend.adapters.sql_server import SqlServerTables


async def hold(url: str, name: str) -> None:
    async with SqlServerTables(url).leases.hold(name):
        print("held", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(hold(*sys.argv[1:]))
