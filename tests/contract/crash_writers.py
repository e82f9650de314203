"""Programs that the kill tests start: each writes for ever and says on stdout what it was told is durable.

python crash_writers.py store ROOT
python crash_writers.py ledger URL NAME
python crash_writers.py racer URL NAME NUM_KEYS
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import sys
from pathlib import Path

from tracemend.kit.ports import Address, Cost
from tracemend.records import Outcome, OutcomeState, Unit

BATCH = 32


def address_of(label: str) -> Address:
    digest = hashlib.sha256(label.encode()).hexdigest()
    return Address(pack=digest, offset=0, length=len(label), digest=digest)


async def write_blobs(root: str) -> None:
    from tracemend.adapters.folder_store import FolderStore

    store = FolderStore(Path(root))
    while True:
        print(await store.put(os.urandom(300_000)), flush=True)


async def write_batches(url: str, name: str) -> None:
    """Batch after batch: attempts, results with their costs, outcomes of the planned units."""
    from tracemend.adapters.sql_ledger import SqlLedger

    ledger = SqlLedger(url)
    for number in itertools.count():
        keys = [f"{name}-{number}-{i}" for i in range(BATCH)]
        await ledger.begin(keys, worker=name)
        costs = {key: Cost(stage="generator", num_items=1) for key in keys}
        await ledger.finish({key: address_of(key) for key in keys}, run="run", costs=costs)
        units = [Unit(arm=name, prompt=f"p{number * BATCH + i}") for i in range(BATCH)]
        ended = [(Outcome(id=u.prompt, unit=u, state=OutcomeState.KEPT), address_of(u.prompt)) for u in units]
        await ledger.conclude("run", ended)
        print(number, flush=True)


async def race(url: str, name: str, num_keys: str) -> None:
    """Finish keys that another process finishes at the same time; says which address won for each."""
    from tracemend.adapters.sql_ledger import SqlLedger

    ledger = SqlLedger(url)
    keys = [f"key-{i}" for i in range(int(num_keys))]
    if name == "backwards":
        keys.reverse()
    for start in range(0, len(keys), BATCH):
        some = keys[start : start + BATCH]
        await ledger.begin(some, worker=name)
        costs = {key: Cost(stage=name, num_items=1) for key in some}
        winners = await ledger.finish({key: address_of(name + key) for key in some}, run="run", costs=costs)
        for key, address in winners.items():
            print(key, address.digest, flush=True)
    await ledger.aclose()


PROGRAMS = {"store": write_blobs, "ledger": write_batches, "racer": race}

if __name__ == "__main__":
    asyncio.run(PROGRAMS[sys.argv[1]](*sys.argv[2:]))
