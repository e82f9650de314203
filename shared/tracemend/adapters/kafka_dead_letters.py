"""Messages that were given up: listing them, and sending them again.

Called by `tracemend redrive` and by the ingestion service. A dead letter lies in the `.dlq` topic beside its own with
its original bytes, key and headers. Redriving publishes the same bytes where they came from, for the group that gave
them up, and then a marker among the letters, so that it no longer counts as waiting; a crash between the two sends it
once more. The topics are read from their beginnings to the ends they had when reading began; nothing is committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tracemend.adapters.kafka_clients import KafkaSettings, open_consumer
from tracemend.adapters.kafka_envelope import (
    ATTEMPT,
    DEAD_GROUP,
    DEAD_REASON,
    DEAD_TIME,
    DEAD_VERSION,
    ORIGIN,
    REDRIVE,
    REDRIVEN,
    RUN,
    SIZE,
    Parcel,
    number_in,
    parcel_of,
    redriven,
    time_in,
)
from tracemend.adapters.kafka_publisher import Publisher
from tracemend.kit.bus_ports import DeadLetter
from tracemend.kit.errors import Retry
from tracemend.kit.telemetry import NO_TELEMETRY, Telemetry
from tracemend.topics import DEAD_LETTERS, Topic

if TYPE_CHECKING:
    from kafka import KafkaConsumer, TopicPartition

_POLL_MS = 500
_PATIENCE = 60
"""Empty polls in a row after which the brokers count as away."""
_CHUNK = 200


class KafkaDeadLetters:
    """`kit.ports.DeadLetters`."""

    def __init__(self, settings: KafkaSettings, *, telemetry: Telemetry = NO_TELEMETRY) -> None:
        self._settings = settings
        self._publisher = Publisher(settings, telemetry=telemetry)

    async def letters(
        self, topics: Sequence[Topic], *, run: str = "", reason: str = "", redriven: bool = False
    ) -> AsyncIterator[DeadLetter]:
        found = await asyncio.to_thread(self._list, [topic.name for topic in topics])
        for letter in found:
            if run in ("", letter.run) and reason in ("", letter.reason) and (redriven or not letter.redrive):
                yield letter

    async def redrive(
        self, letters: Sequence[DeadLetter], *, redrive: str, per_s: float = 0.0, dry_run: bool = False
    ) -> int:
        due = [letter for letter in letters if letter.redrive != redrive]
        if dry_run or not due:
            return len(due)
        again = {one.id for one in await asyncio.to_thread(self._list, sorted({d.topic for d in due}), redrive)}
        due = [letter for letter in due if letter.id not in again]
        size = max(1, min(_CHUNK, int(per_s))) if per_s else _CHUNK
        for start in range(0, len(due), size):
            chunk = due[start : start + size]
            parcels = await asyncio.to_thread(self._fetch, chunk)
            await self._publisher.send([redriven(parcels[d.id], d.topic, redrive=redrive) for d in chunk])
            await self._publisher.send([_marker(letter, redrive) for letter in chunk])
            if per_s and start + size < len(due):
                await asyncio.sleep(len(chunk) / per_s)
        return len(due)

    async def aclose(self) -> None:
        await self._publisher.aclose()

    # -------------------------------------------------------------------------------------- in a thread

    def _list(self, topics: Sequence[str], redrive: str = "") -> list[DeadLetter]:
        """Every letter of `topics`, in the order of their partitions; only those that `redrive` sent, where given."""
        found: list[DeadLetter] = []
        sent: dict[str, str] = {}
        with closing(open_consumer(self._settings, group=None)) as consumer:
            for letter_id, parcel in self._read(consumer, topics):
                if REDRIVEN in parcel.headers:
                    sent[parcel.headers[REDRIVEN]] = parcel.headers.get(REDRIVE, "")
                else:
                    found.append(_letter(letter_id, parcel))
        letters = [replace(one, redrive=sent[one.id]) if one.id in sent else one for one in found]
        return [letter for letter in letters if not redrive or letter.redrive == redrive]

    def _read(self, consumer: KafkaConsumer, topics: Sequence[str]) -> Iterator[tuple[str, Parcel]]:
        """(where it lies, the parcel) of everything in the dead-letter topics of `topics`."""
        from kafka.structs import TopicPartition

        names = {self._settings.named(topic + DEAD_LETTERS): topic for topic in topics}
        partitions = [
            TopicPartition(name, number)
            for name in sorted(names)
            for number in sorted(consumer.partitions_for_topic(name) or ())
        ]
        if not partitions:
            return
        ends = consumer.end_offsets(partitions)
        begins = consumer.beginning_offsets(partitions)
        left = {tp for tp in partitions if ends[tp] > begins[tp]}
        consumer.assign(sorted(left))
        for tp in left:
            consumer.seek(tp, begins[tp])
        for record in _until(consumer, left, ends):
            topic = names[record.topic]
            yield f"{topic}/{record.partition}/{record.offset:020d}", parcel_of(record, topic)

    def _fetch(self, letters: Sequence[DeadLetter]) -> dict[str, Parcel]:
        """The parcels of `letters`, by id."""
        from kafka.structs import TopicPartition

        found = {}
        with closing(open_consumer(self._settings, group=None)) as consumer:
            for letter in letters:
                topic, partition, offset = letter.id.rsplit("/", 2)
                tp = TopicPartition(self._settings.named(topic + DEAD_LETTERS), int(partition))
                if tp not in consumer.assignment():
                    consumer.assign([tp])
                consumer.seek(tp, int(offset))
                record = next(iter(_until(consumer, {tp}, {tp: int(offset) + 1})), None)
                if record is None or record.offset != int(offset):
                    raise ValueError(f"the dead letter {letter.id} is not there any more: its retention is over")
                found[letter.id] = parcel_of(record, topic)
        return found


def _until(consumer: KafkaConsumer, partitions: set[TopicPartition], ends: dict[TopicPartition, int]) -> Iterator[Any]:
    """Records of `partitions` up to the offsets `ends`."""
    left, num_empty = set(partitions), 0
    while left:
        polled = consumer.poll(timeout_ms=_POLL_MS)
        num_empty = 0 if polled else num_empty + 1
        if num_empty > _PATIENCE:
            raise Retry("the brokers give no dead letters", after_s=10.0)
        for records in polled.values():
            yield from records
        left = {tp for tp in left if consumer.position(tp) < ends[tp]}


def _letter(letter_id: str, parcel: Parcel) -> DeadLetter:
    headers = parcel.headers
    return DeadLetter(
        id=letter_id,
        topic=parcel.topic,
        reason=headers.get(DEAD_REASON, ""),
        record=headers.get("ce_id", ""),
        run=headers.get(RUN, ""),
        group=headers.get(DEAD_GROUP, ""),
        buried_s=time_in(headers, DEAD_TIME),
        num_bytes=number_in(headers, SIZE) or len(parcel.body),
        version=headers.get(DEAD_VERSION, ""),
        origin=headers.get(ORIGIN, ""),
        num_attempts=number_in(headers, ATTEMPT),
    )


def _marker(letter: DeadLetter, redrive: str) -> Parcel:
    """What says that `letter` was sent again."""
    return Parcel(
        topic=letter.topic + DEAD_LETTERS,
        key=letter.id.encode(),
        body=b"",
        headers={REDRIVEN: letter.id, REDRIVE: redrive},
    )
