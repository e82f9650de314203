"""A process that reads from Kafka, acknowledges some and then works on the rest until it is killed, or until it is told
by a line on standard input to acknowledge that too.

python kafka_worker.py NAMESPACE GROUP NUM_TAKEN NUM_ACKNOWLEDGED
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace

from tracemend.adapters.kafka_bus import KafkaBus
from tracemend.adapters.kafka_clients import settings_of
from tracemend.kit.logs import log_to_stderr
from tracemend.topics import GENERATIONS
from tracemend.wire import WireCodec


async def work(namespace: str, group: str, num_taken: int, num_acknowledged: int) -> None:
    settings = settings_of(f"kafka:{os.environ['KAFKA_BOOTSTRAP_SERVERS']}?namespace={namespace}")
    bus = KafkaBus(replace(settings, session_timeout_s=6), WireCodec())
    subscription = bus.subscribe([GENERATIONS], group=group)
    held = [await anext(aiter(subscription)) for _ in range(num_taken)]
    for delivery in held[:num_acknowledged]:
        await delivery.ack()
    await asyncio.sleep(1.0)  # several commits
    print("working", flush=True)
    if await asyncio.to_thread(sys.stdin.readline):
        for delivery in held[num_acknowledged:]:
            await delivery.ack()
        await asyncio.sleep(1.0)
        print("acknowledged", flush=True)
    await asyncio.sleep(600)


if __name__ == "__main__":
    log_to_stderr()  # standard output is for who started us
    asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
