"""Does this server behave as the store relies on? Asked once at start, of the very bucket that is to be used.

"S3-compatible" is no evidence: servers have lost races, ignored ranges and listed late. Each trial is one behaviour;
the first that fails is a `SetupError` that names it. Everything is written under `probe/` and removed at the end; what
a killed probe leaves, a lifecycle rule removes (`s3_lifecycle`).
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable

from tracemend.adapters.s3_bucket import Bucket
from tracemend.adapters.s3_errors import Missing, PastEnd, clock_skew_s
from tracemend.adapters.s3_lifecycle import TRIALS
from tracemend.kit.errors import SetupError

NUM_WRITERS = 32
_SIZES = (2**10, 600 * 2**10)
_MOST_SKEW_S = 300.0


async def probe(bucket: Bucket, *, num_writers: int = NUM_WRITERS) -> None:
    """Returns if the server does all that the store relies on."""
    folder = f"{TRIALS}{secrets.token_hex(8)}/"

    async def race(name: str) -> None:
        await _race(bucket, name, num_writers)

    trials: list[Callable[[str], Awaitable[None]]] = [
        lambda name: _reads_its_writes(bucket, name),
        lambda name: _lists_its_writes(bucket, name),
        lambda name: _ranges(bucket, name),
        lambda name: _parts(bucket, name),
        race,
    ]
    try:
        for number, trial in enumerate(trials):
            await trial(f"{folder}{number}")
    finally:
        async for found in bucket.objects(folder):
            await bucket.delete(found.name)


async def _reads_its_writes(bucket: Bucket, name: str) -> None:
    _hold(bucket, await bucket.facts(name) is None, "says that an object is there which never was")
    for content in (b"first", b"first", b""):
        await bucket.put(name, content)
        _hold(bucket, await bucket.get(name) == content, "does not give back what was just written")
    facts = await bucket.facts(name)
    _hold(bucket, facts is not None and facts.num_bytes == 0, "does not know an object that was just written")
    skew_s = clock_skew_s(facts.headers) if facts is not None else None
    if skew_s is not None and abs(skew_s) > _MOST_SKEW_S:
        raise SetupError(f"{bucket.settings.endpoint}'s clock differs from ours by {skew_s:+,.0f} s: set both by NTP")
    await bucket.delete(name)
    try:
        await bucket.get(name)
    except Missing:
        return
    _hold(bucket, False, "still gives an object that was deleted")


async def _lists_its_writes(bucket: Bucket, name: str) -> None:
    names = [f"{name}/{number}" for number in range(3)]
    for each in names:
        await bucket.put(each, b"x")
    _hold(bucket, [found.name async for found in bucket.objects(f"{name}/")] == names, "lists late or out of order")
    await bucket.delete(names[0])
    _hold(bucket, [found.name async for found in bucket.objects(f"{name}/")] == names[1:], "lists what was deleted")


async def _ranges(bucket: Bucket, name: str) -> None:
    await bucket.put(name, b"0123456789")
    _hold(bucket, await bucket.get(name, offset=3, length=4) == b"3456", "does not give the range that was asked for")
    try:
        past = await bucket.get(name, offset=10, length=1)
    except PastEnd:
        past = b""
    _hold(bucket, past == b"", "gives bytes behind an object's end")


async def _parts(bucket: Bucket, name: str) -> None:
    content = os.urandom(bucket.settings.part_bytes + 1)
    await bucket.put(name, content)
    _hold(bucket, await bucket.get(name) == content, "does not put the parts of an upload together")


async def _race(bucket: Bucket, name: str, num_writers: int) -> None:
    """Writers of the same content at once: afterwards it is there once and whole, and at no time another."""
    for size in _SIZES:
        content = os.urandom(size)
        await bucket.put(f"{name}/{size}", content)
        together = asyncio.Barrier(num_writers)

        async def write(target: str, same: bytes, start: asyncio.Barrier) -> set[bytes]:
            await start.wait()
            _, meanwhile = await asyncio.gather(bucket.put(target, same), bucket.get(target))
            return {meanwhile, await bucket.get(target)}

        seen = await asyncio.gather(*(write(f"{name}/{size}", content, together) for _ in range(num_writers)))
        _hold(
            bucket, set().union(*seen) == {content}, f"loses a race of {num_writers} writers of the same {size:,} bytes"
        )
    found = [each.num_bytes async for each in bucket.objects(f"{name}/")]
    _hold(bucket, sorted(found) == sorted(_SIZES), "keeps more than one object after a race of writers")


def _hold(bucket: Bucket, holds: bool, otherwise: str) -> None:
    if not holds:
        raise SetupError(f"{bucket.settings.endpoint} {otherwise}: use a server that does as S3 does")
