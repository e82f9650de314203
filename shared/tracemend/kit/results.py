"""Results by work key: what a stage produced, packed into blobs, found again through the ledger.

A pack is one blob that holds the frames of a whole completion batch; a frame holds the records that one work key
produced, with the topic of each. The ledger maps the key to the frame's place and digest, so one file sync and one
transaction make hundreds of results durable. The first writer of a key wins: `save` answers with the winners' records,
which are what must be published.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import zstandard

from tracemend.kit import crash_points
from tracemend.kit.errors import TracemendError
from tracemend.kit.ports import Address, Codec, Cost, Ledger, Store
from tracemend.topics import Topic

Product: TypeAlias = tuple[Topic, Any]
"""A record and the topic that it belongs on; the context of the event that asked for it is added on publishing."""

_HEAD = struct.Struct("<HI")  # bytes of the topic name, bytes of the record
_CACHE_BYTES = 64 * 2**20
"""Frames kept in memory: joins and re-deliveries ask for what has just been written."""
_ENTRY_BYTES = 256
"""What a kept frame takes beside its content: the digest that names it, two objects, its place in the table."""


class CorruptResult(TracemendError):
    """A stored result no longer matches the digest in the ledger."""


class Results:
    """Saves and loads what stages produced. One per event loop; shared by its pumps."""

    def __init__(
        self,
        *,
        store: Store,
        ledger: Ledger,
        codec: Codec,
        topics: Iterable[Topic],
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._codec = codec
        self._topics = {topic.name: topic for topic in topics}
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._cached_bytes = 0
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._decompressor = zstandard.ZstdDecompressor()

    def frame(self, products: Sequence[Product]) -> bytes:
        """`products` as the bytes of one frame; `Reject` if one of them cannot be written."""
        parts: list[bytes] = []
        for topic, record in products:
            name, content = topic.name.encode(), self._codec.encode(record)
            parts += [_HEAD.pack(len(name), len(content)), name, content]
        return self._compressor.compress(b"".join(parts))

    async def save(
        self,
        frames: Mapping[str, bytes],
        *,
        run: str,
        costs: Mapping[str, Cost],
        subjects: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, tuple[Product, ...]]:
        """Make `frames` (work key → frame) durable; the products of earlier writers for the keys that lost to them."""
        addresses = await self._write(frames)
        crash_points.reached(crash_points.BEFORE_LEDGER)
        winners = await self._ledger.finish(addresses, run=run, costs=costs, subjects=subjects)
        return {key: await self.read(winner) for key, winner in winners.items() if winner != addresses[key]}

    async def done(self, keys: Sequence[str]) -> set[str]:
        """The finished ones among `keys`."""
        return set(await self._ledger.results(keys))

    async def load(self, keys: Sequence[str]) -> dict[str, tuple[Product, ...]]:
        """What the finished ones among `keys` produced."""
        return await self.read_all(await self._ledger.results(keys))

    async def records(self, keys: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """`load` without the topics."""
        return {key: tuple(record for _, record in products) for key, products in (await self.load(keys)).items()}

    async def write(self, entries: Mapping[str, Sequence[Product]]) -> dict[str, Address]:
        """Put all entries into one pack; the addresses of their frames. Nothing is entered into the ledger."""
        return await self._write({key: self.frame(products) for key, products in entries.items()})

    async def _write(self, frames: Mapping[str, bytes]) -> dict[str, Address]:
        pack = await self._store.put(b"".join(frames.values()))
        addresses: dict[str, Address] = {}
        offset = 0
        for key, frame in frames.items():
            digest = hashlib.sha256(frame).hexdigest()
            addresses[key] = Address(pack=pack, offset=offset, length=len(frame), digest=digest)
            offset += len(frame)
            self._remember(digest, frame)
        return addresses

    async def read_all(self, addresses: Mapping[str, Address]) -> dict[str, tuple[Product, ...]]:
        """What lies at each of `addresses`, by key, fetched side by side."""
        products = await asyncio.gather(*(self.read(address) for address in addresses.values()))
        return dict(zip(addresses, products, strict=True))

    async def read(self, address: Address) -> tuple[Product, ...]:
        """The products in the frame at `address`; `CorruptResult` if its bytes have changed."""
        frame = self._cache.get(address.digest)
        if frame is None:
            frame = await self._store.get_range(address.pack, offset=address.offset, length=address.length)
            is_checked = not crash_points.is_missing(crash_points.DIGEST_CHECK)
            if is_checked and hashlib.sha256(frame).hexdigest() != address.digest:
                raise CorruptResult(
                    f"blob {address.pack} no longer holds what was written at {address.offset}; restore it from a "
                    "copy of the store, or start the run in another folder"
                )
            self._remember(address.digest, frame)
        return self._products(frame)

    def _products(self, frame: bytes) -> tuple[Product, ...]:
        content = self._decompressor.decompress(frame)
        products: list[Product] = []
        position = 0
        while position < len(content):
            name_bytes, record_bytes = _HEAD.unpack_from(content, position)
            position += _HEAD.size
            topic = self._topics[content[position : position + name_bytes].decode()]
            position += name_bytes
            products.append((topic, self._codec.decode(topic.record, content[position : position + record_bytes])))
            position += record_bytes
        return tuple(products)

    def _remember(self, digest: str, frame: bytes) -> None:
        if digest in self._cache:
            return
        self._cache[digest] = frame
        self._cached_bytes += len(frame) + _ENTRY_BYTES
        while self._cached_bytes > self._cache_bytes:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= len(oldest) + _ENTRY_BYTES
