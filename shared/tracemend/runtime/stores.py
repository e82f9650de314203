"""What programs and commands do with a store beside keeping blobs: prove it at start, link to a blob, sweep it.

A folder needs none of this: nothing lies between it and us, and `gc` keeps it small under the run's own lock.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from tracemend.adapters.s3_bucket import Bucket
from tracemend.adapters.s3_lifecycle import apply_rules, check_rules
from tracemend.adapters.s3_links import link_to
from tracemend.adapters.s3_probe import probe
from tracemend.adapters.s3_settings import settings_of
from tracemend.adapters.s3_store import S3Store
from tracemend.adapters.s3_sweep import Swept, sweep
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Store

_NOWHERE = "0" * 64


async def prove(store: Store) -> None:
    """`SetupError` where the store's server does not behave as is relied on, or removes blobs too early. A second or
    two; for the start of a program."""
    if isinstance(store, S3Store):
        await probe(store.bucket)
        await check_rules(store.bucket)


async def close(store: Store) -> None:
    """Free the connections of a store that has some; for the end of a program."""
    if isinstance(store, S3Store):
        await store.aclose()


async def answers(store: Store) -> None:
    """Returns if the store can be asked now; `Retry` or `SetupError` otherwise. Cheap, for readiness."""
    await store.has(_NOWHERE)


async def make_bucket(url: str) -> list[str]:
    """Make the bucket of an `s3:` URL where it is missing; what was done, a line each. For trying things out: a bucket
    that is to be kept has an owner who makes it."""
    bucket = Bucket(settings_of(url))
    name = bucket.settings.bucket
    try:
        if await bucket.run("look", lambda: bucket.client.bucket_exists(name)):
            return []
        await bucket.run("make", lambda: bucket.client.make_bucket(name))
    finally:
        bucket.close()
    return [f"made {name}"]


async def tidy(store: Store) -> None:
    """Set the rules by which a bucket forgets half uploads and old damage; for whoever administers it."""
    await apply_rules(_bucketed(store).bucket)


async def link(store: Store, digest: str, *, valid_s: float = 300.0) -> str:
    """A URL for a browser to read one blob as a text file, valid for at most 15 minutes. Audit first."""
    return await link_to(_bucketed(store), digest, valid_s=valid_s)


async def sweep_unreferenced(
    store: Store, referenced: AbstractSet[str], *, grace_s: float | None = None, dry_run: bool = True
) -> Swept:
    """Delete the blobs outside `referenced` that no message can name any more either (`adapters.s3_sweep`)."""
    return await sweep(_bucketed(store), referenced, grace_s=grace_s, dry_run=dry_run)


def _bucketed(store: Store) -> S3Store:
    if not isinstance(store, S3Store):
        raise SetupError("only an s3: store has links and rules and is swept in use; this one is a folder")
    return store
