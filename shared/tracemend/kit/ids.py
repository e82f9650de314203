"""Deterministic ids: the same work has the same key on the laptop and on the cluster, after any replay.

An id hashes what causes the work and nothing else: no run, arm, epoch, engine address or clock may enter. Everything
that makes replays harmless (first-writer-wins results, duplicate events, resumed runs) rests on this.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import hashlib
import json
from collections.abc import Mapping
from typing import Any

_ID_CHARS = 26  # 130 bits of SHA-256 in base32: collisions are out of reach, names stay short
_ID_BYTES = 20  # whole base32 groups that cover them
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def make_id(kind: str, *causes: Any) -> str:
    """`<kind>_<26 base32 characters>`: the digest of the canonical JSON of `causes` (plain values and records)."""
    digest = hashlib.sha256(canonical([kind, *causes])).digest()
    return f"{kind}_{base64.b32encode(digest[:_ID_BYTES]).decode().lower()[:_ID_CHARS]}"


def digest_of(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of `value`: the identity of a plan section or a configuration."""
    return hashlib.sha256(canonical(value)).hexdigest()


def seed_of(request_id: str) -> int:
    """A 63-bit sampling seed that is a function of the request's id, so that a replay samples with the same seed."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8], "big") >> 1


def trajectory_id(request_id: str) -> str:
    """The id of the trajectory that a generation request becomes: joins know it before the sample is drawn."""
    return make_id("trajectory", request_id)


def canonical(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8; records become objects in field order-independent form."""
    return _ENCODER.encode(_plain(value)).encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    if type(value) is str:  # most causes are ids
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise TypeError(f"cannot make a deterministic id from {type(value).__name__}")
