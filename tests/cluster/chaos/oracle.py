"""What must be true of a run when all faults are over: each broken promise in words, none if it was kept.

Durable state alone is asked (ledger, store, audit chain), read by this process and with its own digest checks, so that
no service can vouch for itself.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import zstandard
from tests.cluster.runs_compared import timeless
from tests.cluster.spine import Spine

from tracemend.kit.ports import Address
from tracemend.kit.results import CorruptResult
from tracemend.topics import VERDICTS

_READ_AT_ONCE = 64
Facts = tuple[dict[Any, Any], dict[str, str]]
"""Unit to outcome, and arm to the digest of its dataset."""


async def broken_promises(spine: Spine, run: str, expected: Facts) -> list[str]:
    """Sentences about what was lost, doubled, changed or miscounted, against the same run in one process."""
    outcomes, broken = await _outcomes(spine, run)
    wanted = expected[0]
    if lost := wanted.keys() - outcomes.keys():
        broken.append(f"{len(lost)} of {len(wanted)} units have no outcome")
    if strange := outcomes.keys() - wanted.keys():
        broken.append(f"{len(strange)} outcomes belong to no planned unit")
    if changed := [unit for unit in wanted.keys() & outcomes.keys() if wanted[unit] != outcomes[unit]]:
        broken.append(f"{len(changed)} outcomes differ from those of one process")
    broken += await _digests(spine)
    broken += await _counters(spine, run, outcomes)
    if (entry := await spine.tables.audit.verify()) is not None:
        broken.append(f"the audit chain breaks at entry {entry}")
    return broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Waste:
    """What is stored and nothing refers to."""

    num_bytes: int
    """Work that was done again, and the chunks of uploads."""
    num_verdicts: int
    """In packs that came too late: trajectories that were judged again."""


async def waste_of(spine: Spine) -> Waste:
    store, referenced = spine.workspace.store, await spine.workspace.ledger.referenced()
    blobs = [await store.get(digest) async for digest in store.digests() if digest not in referenced]
    return Waste(num_bytes=sum(map(len, blobs)), num_verdicts=sum(map(_num_verdicts, blobs)))


def _num_verdicts(blob: bytes) -> int:
    """How many of a pack's records are verdicts; 0 where the blob is no pack."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True) as frames:
            return frames.readall().count(VERDICTS.name.encode())
    except zstandard.ZstdError:
        return 0


async def _outcomes(spine: Spine, run: str) -> tuple[dict[Any, Any], list[str]]:
    outcomes: dict[Any, Any] = {}
    broken = []
    concluded = [each async for each in spine.workspace.ledger.outcomes(run)]
    for start in range(0, len(concluded), _READ_AT_ONCE):
        batch = concluded[start : start + _READ_AT_ONCE]
        reads = (spine.workspace.results.read(each.address) for each in batch)
        for each, found in zip(batch, await asyncio.gather(*reads, return_exceptions=True), strict=True):
            if each.unit in outcomes:
                broken.append(f"{each.unit} has two outcomes")
            if isinstance(found, CorruptResult):
                broken.append(str(found))
                continue
            if isinstance(found, BaseException):
                raise found
            ((_, outcome),) = found
            if outcome.unit != each.unit or outcome.state != each.state:
                broken.append(f"the ledger says {each.state} of {each.unit}, its record {outcome.state}")
            outcomes[each.unit] = timeless(outcome)
    return outcomes, broken


async def _digests(spine: Spine) -> list[str]:
    """Every address of the ledger leads to the bytes that were written there."""
    by_pack: dict[str, list[Address]] = {}
    async for address in spine.workspace.ledger.addresses():
        by_pack.setdefault(address.pack, []).append(address)
    broken = []
    for pack, addresses in by_pack.items():
        content = await spine.workspace.store.get(pack)
        for address in addresses:
            frame = content[address.offset : address.offset + address.length]
            if hashlib.sha256(frame).hexdigest() != address.digest:
                broken.append(f"blob {pack} does not hold what the ledger says at {address.offset}")
    return broken


async def _counters(spine: Spine, run: str, outcomes: dict[Any, Any]) -> list[str]:
    """The tallies that users are shown say what the rows say, and units in are outcomes out."""
    counted = Counter(await spine.workspace.ledger.outcome_counts(run))
    found = Counter((unit.arm, outcome.state, outcome.reason) for unit, outcome in outcomes.items())
    planned = sum((await spine.workspace.ledger.unit_counts(run)).values())
    broken = [] if counted == found else [f"the tallies say {counted.total()} outcomes, the rows {found.total()}"]
    return broken if planned == counted.total() else [*broken, f"{planned} planned units, {counted.total()} outcomes"]
