"""Topics on the broker as the catalogue says: what should be there, what is, and making it so.

Called by `tracemend topics` and by services when they start. Every topic of the catalogue has its delay topics and
its dead letters beside it. Nothing is ever shrunk or deleted: fewer partitions than there are is no difference.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tracemend.adapters.kafka_clients import KafkaSettings, open_admin
from tracemend.kit.errors import Retry, SetupError
from tracemend.topics import DEAD_LETTERS, RETRY_TIERS_S, Topic, retry_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafka.admin import KafkaAdminClient

T = TypeVar("T")

_HOUR_MS = 3_600_000
_DEAD_FACTOR = 4
"""Dead letters are kept so many times longer than what they were."""
_SIDE_PARTITIONS = 6
"""Most partitions of delay topics and dead letters: little goes there."""
_SETTLE_S = 10.0
_NOT_THERE = {3, 29}
"""What brokers answer about a topic that they do not have, or may not tell of."""
_MAX_MESSAGE_BYTES = 1024 * 1024
_WORDS = 300
"""Characters of an error of the client, which may recite its whole request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """How many brokers keep each record, and how many of them must have it before it counts as written."""

    factor: int = 3
    min_isr: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One topic as it should be."""

    name: str
    partitions: int
    configs: dict[str, str]


def wanted(topics: Sequence[Topic], replication: Replication = Replication()) -> list[Wanted]:
    """Everything that the broker must have for `topics`, delay topics and dead letters included."""
    everything = []
    for topic in topics:
        side = min(topic.partitions, _SIDE_PARTITIONS)
        names = {topic.name: (topic.partitions, 1)}
        names |= {retry_name(topic.name, tier_s): (side, 1) for tier_s in RETRY_TIERS_S}
        names[topic.name + DEAD_LETTERS] = (side, _DEAD_FACTOR)
        for name, (partitions, factor) in names.items():
            configs = {
                "cleanup.policy": "delete",
                "retention.ms": str(topic.retention_hours * _HOUR_MS * factor),
                "min.insync.replicas": str(replication.min_isr),
                "max.message.bytes": str(_MAX_MESSAGE_BYTES),
                "unclean.leader.election.enable": "false",
            }
            everything.append(Wanted(name=name, partitions=partitions, configs=configs))
    return everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How one topic is not as it should be."""

    wanted: Wanted
    num_partitions: int
    """As it is; 0 where the topic is missing."""
    configs: dict[str, str]
    """As they are, those that differ."""

    def __str__(self) -> str:
        if not self.num_partitions:
            return f"{self.wanted.name}: missing"
        told = [f"{name} is {value}, not {self.wanted.configs[name]}" for name, value in self.configs.items()]
        if self.num_partitions < self.wanted.partitions:
            told.insert(0, f"{self.num_partitions} partitions, not {self.wanted.partitions}")
        return f"{self.wanted.name}: {'; '.join(told)}"


class KafkaTopics:
    """`kit.ports.TopicKeeper`."""

    def __init__(self, settings: KafkaSettings, replication: Replication = Replication()) -> None:
        self._settings = settings
        self._replication = replication
        self._checking: KafkaAdminClient | None = None
        self._has_answered = False
        self._lock = threading.Lock()

    async def differences(self, topics: Sequence[Topic]) -> list[str]:
        return [str(difference) for difference in await self._with_admin(lambda admin: self._compare(admin, topics))]

    async def apply(self, topics: Sequence[Topic]) -> list[str]:
        def change(admin: KafkaAdminClient) -> list[Difference]:
            differences = self._compare(admin, topics)
            self._create(admin, [d.wanted for d in differences if not d.num_partitions])
            self._change(admin, [d for d in differences if d.num_partitions])
            deadline_s = time.monotonic() + _SETTLE_S
            while time.monotonic() < deadline_s and self._compare(admin, topics):
                time.sleep(0.1)  # brokers tell of a change a moment after they have made it
            return differences

        done = await self._with_admin(change)
        return [f"{d} → {'changed' if d.num_partitions else 'created'}" for d in done]

    async def check(self, topics: Sequence[Topic]) -> None:
        """Asked every few seconds: keeps its connection, and asks for these topics alone. `Retry` while brokers that
        once let us in are away, `SetupError` where they never did."""
        names = await asyncio.to_thread(self._missing, topics)
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise SetupError(
                f"Kafka at {','.join(self._settings.bootstrap)} lacks the topics {shown}; run `tracemend topics apply` "
                "(with --target NAME for a target's own)"
            )

    def _missing(self, topics: Sequence[Topic]) -> list[str]:
        from kafka.errors import KafkaError

        named = {self._settings.named(each.name): each.name for each in wanted(topics)}
        found = None
        with self._lock:
            try:
                self._checking = self._checking or open_admin(self._settings)
                found = self._checking.describe_topics(list(named))
            except KafkaError as error:
                raise Retry(f"Kafka at {','.join(self._settings.bootstrap)} does not answer: {error}") from None
            except SetupError as away:
                raise Retry(str(away)) if self._has_answered else away from None
            finally:
                if found is None:  # whatever it was, the next check begins anew
                    self._leave()
        self._has_answered = True
        return [named[topic["name"]] for topic in found if topic["error_code"] in _NOT_THERE]

    def _leave(self) -> None:
        checking, self._checking = self._checking, None
        if checking is not None:
            checking.close()

    async def aclose(self) -> None:
        def leave() -> None:
            with self._lock:
                self._leave()

        await asyncio.to_thread(leave)

    async def _with_admin(self, ask: Callable[[KafkaAdminClient], T]) -> T:
        def run() -> T:
            from kafka.errors import KafkaError

            admin = open_admin(self._settings)
            try:
                return ask(admin)
            except KafkaError as error:
                raise SetupError(
                    f"Kafka at {','.join(self._settings.bootstrap)} refused: {str(error)[:_WORDS]}; on fewer than "
                    "three brokers, lower --replication and --min-isr"
                ) from None
            finally:
                admin.close()

        return await asyncio.to_thread(run)

    def _compare(self, admin: KafkaAdminClient, topics: Sequence[Topic]) -> list[Difference]:
        from kafka.admin import ConfigResource, ConfigResourceType

        everything = wanted(topics, self._replication)
        existing = set(admin.list_topics())
        names = [self._settings.named(w.name) for w in everything if self._settings.named(w.name) in existing]
        if not names:
            return [Difference(wanted=w, num_partitions=0, configs={}) for w in everything]
        sizes = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(names)}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        found = admin.describe_configs(resources, config_filter="all")
        differences = []
        for want in everything:
            name = self._settings.named(want.name)
            configs = _values(found, name) if name in sizes else {}
            differing = {k: configs[k] for k, v in want.configs.items() if configs.get(k, v) != v}
            if sizes.get(name, 0) < want.partitions or differing:
                differences.append(Difference(wanted=want, num_partitions=sizes.get(name, 0), configs=differing))
        return differences

    def _create(self, admin: KafkaAdminClient, missing: Sequence[Wanted]) -> None:
        if missing:
            admin.create_topics(
                {
                    self._settings.named(want.name): {
                        "num_partitions": want.partitions,
                        "replication_factor": self._replication.factor,
                        "configs": want.configs,
                    }
                    for want in missing
                },
                wait_for_metadata=True,
            )

    def _change(self, admin: KafkaAdminClient, differing: Sequence[Difference]) -> None:
        from kafka.admin import ConfigResource, ConfigResourceType

        growing = {
            self._settings.named(d.wanted.name): d.wanted.partitions
            for d in differing
            if d.num_partitions < d.wanted.partitions
        }
        if growing:
            admin.create_partitions(growing)
        altered = [
            ConfigResource(
                ConfigResourceType.TOPIC,
                self._settings.named(d.wanted.name),
                configs={name: d.wanted.configs[name] for name in d.configs},
            )
            for d in differing
            if d.configs
        ]
        if altered:
            admin.alter_configs(altered)


def _values(found: Any, topic: str) -> dict[str, str]:
    """The configuration of `topic` in what `describe_configs` gave."""
    return {name: str(entry["value"]) for name, entry in found["topic"][topic].items()}
