"""Bytes that resemble good ones: what fuzzing throws at whatever reads bytes. A generator's seed repeats them."""

from __future__ import annotations

import random
from collections.abc import Sequence

_BAD_TEXT = (b"", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"A" * 5000, b"-1", b"nan", b"inf", b"1e400", b"9" * 40)
_TAGS = bytes((0x00, 0x07, 0x0A, 0x12, 0x1A, 0x7F, 0x80, 0xFF))
"""Lengths, keys and ends of varints: what parsers of protobuf trip over."""


def mutated(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """Random bytes, or one of `samples` changed a little: bits, bytes, cuts, repeats, and parts of two."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(300))
    content = bytearray(rng.choice(samples))
    for _ in range(rng.choice((1, 1, 2, 4))):
        _change(rng, content, samples)
    return bytes(content)


def _change(rng: random.Random, content: bytearray, samples: Sequence[bytes]) -> None:
    at = rng.randrange(len(content) + 1)
    to = min(len(content), at + rng.randrange(1, 20))
    match rng.randrange(7):
        case 0 if at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        case 1 if at < len(content):
            content[at] = rng.choice(_TAGS)
        case 2:
            del content[at:to]
        case 3:
            del content[at:]
        case 4:
            content[at:at] = content[at:to]
        case 5:
            content[at:to] = rng.randbytes(to - at)
        case _:
            other = rng.choice(samples)
            content[at:] = other[min(at, len(other)) :]


def hostile_value(rng: random.Random, value: bytes) -> bytes:
    """A header's or field's value, or something in its place."""
    return rng.choice((value, mutated(rng, [value]), rng.choice(_BAD_TEXT)))
