"""Whether the store's server behaves as is relied on: `python -m tracemend.programs.store_proof`.

`helm test` runs it in the cluster, with the credentials that the release has; services prove the same as they start.
"""

from __future__ import annotations

import asyncio
import os
import sys

from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import Store
from tracemend.kit.secrets import secret_of
from tracemend.runtime.opening import open_store
from tracemend.runtime.stores import close, prove


def main() -> int:
    """0 where the store that TRACEMEND_STORE names is proven; 2 with what it does otherwise, or that it is silent."""
    try:
        url = secret_of("TRACEMEND_STORE", os.environ).reveal()
        if not url:
            raise SetupError("set TRACEMEND_STORE, as the services have it")
        asyncio.run(_proven(open_store(url)))
    except (Retry, SetupError) as error:
        print(error, file=sys.stderr)
        return 2
    print("the store reads, lists, takes parts and refuses second writers as is relied on")
    return 0


async def _proven(store: Store) -> None:
    try:
        await prove(store)
    finally:
        await close(store)


if __name__ == "__main__":
    sys.exit(main())
