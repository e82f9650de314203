"""URLs to adapters: the scheme names the technology, and only the adapter that is asked for is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from tracemend.kit.bus_ports import Backlogs, DeadLetters, TopicKeeper
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Bus, Ledger, Store
from tracemend.kit.registry import did_you_mean
from tracemend.kit.server_ports import ServerTables
from tracemend.kit.telemetry import NO_TELEMETRY, Telemetry
from tracemend.kit.urls import shown

T = TypeVar("T")

_SQL = ("sqlite", "postgresql", "postgres")


def open_bus(url: str, *, store: Store | None = None, telemetry: Telemetry = NO_TELEMETRY) -> Bus:
    """`memory:` or `kafka:HOST:PORT[,HOST:PORT…][?namespace=NAME]`; large bodies go to `store`, where there is one."""
    return _open("bus", url, {"memory": _memory_bus, "kafka": lambda url: _kafka_bus(url, store, telemetry)})


def open_topic_keeper(url: str, *, replication: int = 3, min_isr: int = 2) -> TopicKeeper:
    """Of the bus at the same URL; `replication` and `min_isr` are for topics that it makes or compares."""
    keepers = {"memory": _memory_topics, "kafka": lambda url: _kafka_topics(url, replication, min_isr)}
    return _open("bus", url, keepers)


def open_dead_letters(url: str) -> DeadLetters:
    """Of the bus at the same URL."""
    return _open("bus", url, {"kafka": _kafka_dead_letters})


def open_backlogs(url: str) -> Backlogs:
    """Of the bus at the same URL."""
    return _open("bus", url, {"kafka": _kafka_backlogs})


def open_store(url: str, *, telemetry: Telemetry = NO_TELEMETRY) -> Store:
    """`file:FOLDER` or `s3:BUCKET[/PREFIX][?endpoint=URL&region=NAME&sse=s3|kms:KEY]`."""
    return _open("store", url, {"file": _folder_store, "s3": lambda url: _s3_store(url, telemetry)})


def open_ledger(url: str) -> Ledger:
    """`sqlite:FILE` or `postgresql://USER:PASSWORD@HOST/DATABASE`."""
    return _open("ledger", url, dict.fromkeys(_SQL, _sql_ledger))


def open_server_tables(url: str) -> ServerTables:
    """Of the ledger at the same URL."""
    return _open("ledger", url, dict.fromkeys(_SQL, _sql_server_tables))


def _open(port: str, url: str, openers: Mapping[str, Callable[[str], T]]) -> T:
    scheme = url.split(":", 1)[0]
    if scheme not in openers:
        raise SetupError(f"{port} URL '{shown(url)}': unknown scheme{did_you_mean(scheme, sorted(openers))}")
    return openers[scheme](url)


def _memory_topics(url: str) -> TopicKeeper:
    from tracemend.adapters.memory_bus import MemoryTopics

    return MemoryTopics()


def _memory_bus(url: str) -> Bus:
    from tracemend.adapters.memory_bus import MemoryBus
    from tracemend.wire import WireCodec

    return MemoryBus(WireCodec())


def _kafka_bus(url: str, store: Store | None, telemetry: Telemetry) -> Bus:
    from tracemend.adapters.kafka_bus import KafkaBus
    from tracemend.adapters.kafka_clients import settings_of
    from tracemend.wire import WireCodec

    return KafkaBus(settings_of(url), WireCodec(), store=store, telemetry=telemetry)


def _kafka_topics(url: str, replication: int, min_isr: int) -> TopicKeeper:
    from tracemend.adapters.kafka_clients import settings_of
    from tracemend.adapters.kafka_topics import KafkaTopics, Replication

    return KafkaTopics(settings_of(url), Replication(factor=replication, min_isr=min_isr))


def _kafka_dead_letters(url: str) -> DeadLetters:
    from tracemend.adapters.kafka_clients import settings_of
    from tracemend.adapters.kafka_dead_letters import KafkaDeadLetters

    return KafkaDeadLetters(settings_of(url))


def _kafka_backlogs(url: str) -> Backlogs:
    from tracemend.adapters.kafka_backlogs import KafkaBacklogs
    from tracemend.adapters.kafka_clients import settings_of

    return KafkaBacklogs(settings_of(url))


def _folder_store(url: str) -> Store:
    from pathlib import Path

    from tracemend.adapters.folder_store import FolderStore

    return FolderStore(Path(url.split(":", 1)[1]))


def _s3_store(url: str, telemetry: Telemetry) -> Store:
    from tracemend.adapters.s3_bucket import Bucket
    from tracemend.adapters.s3_settings import settings_of
    from tracemend.adapters.s3_store import S3Store

    return S3Store(Bucket(settings_of(url), telemetry))


def _sql_ledger(url: str) -> Ledger:
    from tracemend.adapters.sql_ledger import SqlLedger

    return SqlLedger(url)


def _sql_server_tables(url: str) -> ServerTables:
    from tracemend.adapters.sql_server import SqlServerTables

    return SqlServerTables(url)
