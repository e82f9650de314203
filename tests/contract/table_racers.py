"""A program of which the server tables' tests start two: writes what the other one writes, and says what it was told.

python table_racers.py URL NAME NUM
"""

from __future__ import annotations

import asyncio
import sys

from tracemend.adapters.sql_server import SqlServerTables
from tracemend.kit.server_ports import AuditEntry, Conflict, RunRecord


async def race(url: str, name: str, num: int) -> None:
    tables = SqlServerTables(url)
    for number in range(num):
        entry = await tables.audit.append(AuditEntry(principal=name, action="race", resource=""))
        print("audit", entry.number, flush=True)
        print("attempt", await tables.jobs.start("job", plan="p"), flush=True)
        answer = await tables.requests.remember("p", "m", str(number), digest=name, response=name.encode())
        print(f"answer-{number}", answer.response.decode(), flush=True)
        try:
            await tables.runs.create(RunRecord(run=f"r{number}", plan="p", submitted_by=name))
            print("run", number, flush=True)
        except Conflict:
            pass
    await tables.aclose()


if __name__ == "__main__":
    asyncio.run(race(sys.argv[1], sys.argv[2], int(sys.argv[3])))
