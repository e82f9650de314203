"""What waits in Kafka for each group, seen from outside: also of groups that have no member at the moment.

Members tell their own lag (`kafka_consumer`), and nobody does once the last one is gone; that is when it matters to
autoscaling, alerts and `tracemend top`. Everything is asked of an administrator's connection: no record is read and no
group is joined, so that being allowed to describe groups and topics is enough.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracemend.adapters.kafka_clients import KafkaSettings, open_admin
from tracemend.kit.bus_ports import Backlog
from tracemend.kit.errors import Retry, SetupError
from tracemend.topics import RETRY_TIERS_S, retry_name

if TYPE_CHECKING:
    from kafka import TopicPartition
    from kafka.admin import KafkaAdminClient

_CATALOGUE = ".tracemend."
"""What the first topic's name begins with after the group's, in the name of a broker's group."""
_RETRY = retry_name("", RETRY_TIERS_S[0])
_FIRST_STEP_S = 1.0
_STEP_GROWTH = 4.0
_PRECISE_S, _PRECISE = 0.2, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joined:
    """One broker's group: a group of ours on one topic, or on the delay topics beside it."""

    name: str
    group: str
    topic: str
    sources: frozenset[str]
    """The topics that it reads, as the broker names them."""


class KafkaBacklogs:
    """`kit.bus_ports.Backlogs`. Connects when it is first asked, and anew after every failure."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._admin: KafkaAdminClient | None = None
        self._has_answered = False

    async def read(self) -> Sequence[Backlog]:
        return await asyncio.to_thread(self._read)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._close)

    # -------------------------------------------------------------------------- on a thread of its own

    def _read(self) -> Sequence[Backlog]:
        with self._lock, self._connected() as admin:
            topics = set(admin.list_topics())
            names = sorted({str(group["group_id"]) for group in admin.list_groups()})
            joined = [one for name in names if (one := _joined(name, self._settings, topics)) is not None]
            if not joined:
                return ()
            members = {
                name: len(its["members"]) for name, its in admin.describe_groups([j.name for j in joined]).items()
            }
            first_open, ends = _offsets(admin, joined)
            now_s, found = time.time(), []
            for one in joined:
                behind = {tp: offset for tp, offset in first_open[one.name].items() if offset < ends[tp]}
                times = _written_s(admin, behind, now_s).values()
                found.append(
                    Backlog(
                        group=one.group,
                        topic=one.topic,
                        num_items=sum(ends[tp] - offset for tp, offset in behind.items()),
                        oldest_s=max(0.0, now_s - min(times, default=now_s)),
                        num_members=members[one.name],
                    )
                )
            return found

    @contextmanager
    def _connected(self) -> Iterator[KafkaAdminClient]:
        from kafka.errors import KafkaError

        is_well = False
        try:
            self._admin = self._admin or open_admin(self._settings)
            yield self._admin
            is_well = self._has_answered = True
        except KafkaError as error:
            where = ",".join(self._settings.bootstrap)
            raise Retry(f"Kafka at {where} does not tell offsets: {error}") from None
        except SetupError as away:
            raise Retry(str(away)) if self._has_answered else away from None
        finally:
            if not is_well:
                self._leave()

    def _close(self) -> None:
        with self._lock:
            self._leave()

    def _leave(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()


def _joined(name: str, settings: KafkaSettings, topics: set[str]) -> _Joined | None:
    """What the broker's group `name` is of ours; None for a stranger's."""
    group, found, rest = settings.unnamed(name).partition(_CATALOGUE)
    if not found or settings.named(settings.unnamed(name)) != name:
        return None
    read = f"{_CATALOGUE.lstrip('.')}{rest}"
    topic = read.removesuffix(_RETRY)
    tiers = [read] if topic == read else [retry_name(topic, tier_s) for tier_s in RETRY_TIERS_S]
    sources = frozenset(settings.named(each) for each in tiers) & topics
    if not sources:
        return None
    return _Joined(name=name, group=group, topic=topic if topic == read else f"{topic}.retry", sources=sources)


def _offsets(
    admin: KafkaAdminClient, joined: Sequence[_Joined]
) -> tuple[Mapping[str, Mapping[TopicPartition, int]], Mapping[TopicPartition, int]]:
    """The first offset that is not done, by group and partition, and the end of each partition."""
    from kafka.admin import OffsetSpec
    from kafka.structs import TopicPartition

    partitions = [
        TopicPartition(topic["name"], each["partition_index"])
        for topic in admin.describe_topics(sorted(set().union(*(one.sources for one in joined))))
        for each in topic["partitions"]
    ]
    begins = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
    ends = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    committed = admin.list_group_offsets([one.name for one in joined])
    first_open = {
        one.name: {
            tp: max(begins[tp].offset, committed[one.name][tp].offset if tp in committed[one.name] else 0)
            for tp in partitions
            if tp.topic in one.sources
        }
        for one in joined
    }
    return first_open, {tp: its.offset for tp, its in ends.items()}


def _written_s(admin: KafkaAdminClient, wanted: Mapping[TopicPartition, int], now_s: float) -> dict[Any, float]:
    """When the record at each wanted offset was written, Unix time, to a twentieth of its age.

    No record is read: brokers tell the first offset at or after a time, and times are tried until that is the wanted
    one, or they are close. Steps back from now grow until they are beyond the record, then the rest is halved.
    """
    early, late = dict.fromkeys(wanted, 0.0), dict.fromkeys(wanted, now_s)
    open_ones, step_s = set(wanted), _FIRST_STEP_S
    while open_ones:
        tried = {tp: (early[tp] + late[tp]) / 2 if early[tp] else max(1.0, now_s - step_s) for tp in open_ones}
        step_s *= _STEP_GROWTH
        found = admin.list_partition_offsets({tp: int(at_s * 1000) for tp, at_s in tried.items()})
        for tp, at_s in tried.items():
            if 0 <= found[tp].offset <= wanted[tp]:
                early[tp] = max(at_s, found[tp].timestamp / 1000)
                if found[tp].offset == wanted[tp]:
                    late[tp] = early[tp]
            else:
                late[tp] = at_s
            if late[tp] - early[tp] <= max(_PRECISE_S, _PRECISE * (now_s - early[tp])) or late[tp] <= 1:
                open_ones.discard(tp)
    return early
