"""Removing blobs that nothing needs: no ledger row refers to them and no recent message can.

`tracemend gc` calls it for a bucket that many processes use at once, so it locks nothing out. It is safe because of
three ages: a message names a blob for at most `s3_lifecycle.needed_hours`, which is the least grace; `S3Store.put`
writes a blob anew once it is an hour old, so one that somebody has come to need is young; and its age is asked for
once more just before it goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import structlog

from tracemend.adapters.s3_lifecycle import needed_hours
from tracemend.adapters.s3_store import BLOBS, S3Store, digest_in

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a pass found; `deleted` are the blobs that went, or would go where it was a dry run."""

    num_kept: int
    num_waiting: int
    """Without a reference, but younger than the grace."""
    deleted: tuple[str, ...]
    num_bytes: int
    """Of the deleted."""


async def sweep(
    store: S3Store,
    referenced: AbstractSet[str],
    *,
    grace_s: float | None = None,
    dry_run: bool = True,
    clock: Callable[[], float] = time.time,
) -> Swept:
    """Delete the blobs outside `referenced` that were last written more than `grace_s` seconds ago.

    `referenced` is what the ledger says, asked for just before. The default grace is the least one; a shorter one is a
    `ValueError`.
    """
    least_s = needed_hours() * 3600
    grace_s = least_s if grace_s is None else grace_s
    if grace_s < least_s:
        raise ValueError(f"messages may name a blob for {least_s:,.0f} s, so {grace_s:,.0f} s of grace are too few")
    num_kept = num_waiting = num_bytes = 0
    deleted: list[str] = []
    async for found in store.bucket.objects(BLOBS):
        digest = digest_in(found.name)
        if digest is None:
            continue
        if digest in referenced:
            num_kept += 1
        elif clock() - found.modified_s < grace_s or not await _delete(store, digest, clock() - grace_s, dry_run):
            num_waiting += 1
        else:
            deleted.append(digest)
            num_bytes += found.num_bytes
    log.info("store_swept", num_kept=num_kept, num_deleted=len(deleted), num_bytes=num_bytes, dry_run=dry_run)
    return Swept(num_kept=num_kept, num_waiting=num_waiting, deleted=tuple(deleted), num_bytes=num_bytes)


async def _delete(store: S3Store, digest: str, before_s: float, dry_run: bool) -> bool:
    """Whether the blob is (or would be) gone: not if it was written again meanwhile."""
    if dry_run:
        return True
    facts = await store.facts(digest)
    if facts is not None and facts.modified_s > before_s:
        return False
    await store.delete(digest)
    return True
