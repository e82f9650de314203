"""Marked strings in the place of harmful text, and everywhere that a cluster could have put them.

A mark is looked for as it is, in hexadecimal and in Base64 at each of its three alignments.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.cluster.spine import Spine

from tracemend.adapters.kafka_clients import KafkaSettings, open_admin, open_consumer, settings_of
from tracemend.adapters.s3_bucket import Bucket
from tracemend.adapters.s3_settings import settings_of as s3_settings_of
from tracemend.topics import DEAD_LETTERS


def new_mark(name: str) -> str:
    """A word that stands nowhere else."""
    return f"canary{name}{secrets.token_hex(12)}"


def forms(mark: str) -> list[bytes]:
    """What `mark` looks like in bytes. Base64 groups that its neighbours enter are left out."""
    raw = mark.encode()
    aligned = [base64.b64encode(b"\0" * shift + raw)[(0, 4, 4)[shift] : -4] for shift in range(3)]
    return [raw, raw.hex().encode(), *aligned]


def found(content: bytes, marks: Mapping[str, str]) -> set[str]:
    """The names of the marks that `content` holds, in any form."""
    lowered = content.lower()
    return {name for name, mark in marks.items() for form in forms(mark) if form in content or form.lower() in lowered}


def rows_of_database(ledger: str) -> Iterator[tuple[str, bytes]]:
    """(table, row as text) of every table of the schema; binary columns are in hexadecimal."""
    import psycopg
    from psycopg import sql

    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
    with psycopg.connect(ledger) as connection:
        for (table,) in connection.execute(tables).fetchall():
            rows = connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table)))
            for (row,) in rows:
                yield table, row.encode()


def blobs_of(store: str) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every object in the bucket."""
    bucket = Bucket(s3_settings_of(store))
    for listed in bucket.client.list_objects(bucket.settings.bucket, recursive=True):
        with bucket.client.get_object(bucket.settings.bucket, listed.object_name) as response:
            yield listed.object_name, response.read()
    bucket.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Travelled:
    """One record as it lies on the broker."""

    topic: str
    key: bytes
    body: bytes
    headers: bytes
    """All of them, names and values."""

    @property
    def is_dead(self) -> bool:
        return self.topic.endswith(DEAD_LETTERS)


def records_of(bus: str) -> list[Travelled]:
    """Every record of every topic of the namespace."""
    settings = settings_of(bus)
    with_prefix = f"{settings.namespace}."
    admin = open_admin(settings)
    names = [name for name in admin.list_topics() if name.startswith(with_prefix)]
    admin.close()
    return list(_records(settings, names))


def _records(settings: KafkaSettings, names: list[str]) -> Iterator[Travelled]:
    from kafka.structs import TopicPartition

    consumer = open_consumer(settings, group=None)
    partitions = [
        TopicPartition(name, number) for name in names for number in sorted(consumer.partitions_for_topic(name) or ())
    ]
    ends, begins = consumer.end_offsets(partitions), consumer.beginning_offsets(partitions)
    left = {tp for tp in partitions if ends[tp] > begins[tp]}
    consumer.assign(sorted(left))
    for tp in left:
        consumer.seek(tp, begins[tp])
    while left:
        for records in consumer.poll(timeout_ms=500).values():
            for record in records:
                headers = b"\n".join(name.encode() + b"=" + (value or b"") for name, value in record.headers)
                yield Travelled(
                    topic=settings.unnamed(record.topic),
                    key=record.key or b"",
                    body=record.value or b"",
                    headers=headers,
                )
        left = {tp for tp in left if consumer.position(tp) < ends[tp]}
    consumer.close()


def pages_of(spine: Spine) -> Iterator[tuple[str, bytes]]:
    """(service, what it answers) for each page of each service's HTTP port."""
    import json
    import urllib.error
    import urllib.request

    for service in spine.processes:
        lines = [json.loads(line) for line in spine.log(service).splitlines() if line.startswith("{")]
        (port,) = {line["http_port"] for line in lines if line["event"] == "starting"}
        for page in ("metrics", "healthz", "readyz"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as answer:
                yield f"{service}/{page}", answer.read()
