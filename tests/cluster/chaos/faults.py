"""The faults that a run is put under: each is injected, mended, and waited out until the run moves again.

A kind is a method's name; it says in words what it did. What a fault broke is mended before it returns, whatever
happens.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.chaos.s3_proxy import S3Proxy
from tests.cluster.spine import SERVICES, Spine
from tests.servers import broken, needs_control

from tracemend.adapters.kafka_clients import open_admin, settings_of
from tracemend.adapters.s3_store import name_of
from tracemend.kit.crash_points import CRASH_AT, PLACES
from tracemend.topics import TRAJECTORIES, VERDICTS

STAGES = ("generator", "judge", "corrector")
SERVERS = ("kafka-1", "minio", "postgres")
_CRASHES_WITHIN_S = 60.0
_ANY_AGE_MS = 2**63 - 1
_DONE_BEFORE_REWIND = 400
_DAMAGED_S = 20.0
"""Enough for services to start and to feed a run."""


@dataclass(kw_only=True)
class Faults:
    """Injects faults into one spine. `toxiproxy` is the URL of one before the servers, empty where there is none."""

    spine: Spine
    random: random.Random
    s3: S3Proxy
    session_s: int
    toxiproxy: str = ""
    run: str = ""
    """What is under way; set once it is."""
    told: list[str] = field(default_factory=list)

    async def inject(self, kind: str) -> str:
        """Do what `kind` says, and mend it; what was done, in words."""
        words: str = await getattr(self, kind)()
        self.told.append(words)
        return words

    def expect_all_alive(self) -> None:
        """No service ends by itself, whatever is broken around it."""
        for service, process in self.spine.processes.items():
            code = process.poll()
            assert code is None, f"{service} ended by itself ({code})\n{self.spine.log(service)[-3000:]}"

    # ------------------------------------------------------------------------------------ services

    async def kill(self, services: Sequence[str] = SERVICES) -> str:
        """SIGKILL, one after the other: what is in flight between them goes at once."""
        chosen = self.random.sample(services, len(services))
        for service in chosen:
            code = self.spine.kill(service)
            assert code == -signal.SIGKILL, f"{service} ended by itself ({code})\n{self.spine.log(service)[-2000:]}"
        for service in chosen:
            self.spine.start(service)
        return f"SIGKILL {' '.join(chosen)}"

    async def kill_stages(self) -> str:
        return await self.kill(STAGES)

    async def freeze(self) -> str:
        """SIGSTOP for longer than its session: others get its partitions, and it wakes up believing in them."""
        service = self.random.choice((*STAGES, "trainer"))
        process = self.spine.processes[service]
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.session_s + 2.0)
        process.send_signal(signal.SIGCONT)
        return f"SIGSTOP {service}"

    async def storm(self) -> str:
        """Replicas of a stage come and go, each a rebalance."""
        stage = self.random.choice(STAGES)
        replicas = []
        try:
            for _ in range(3):
                replicas.append(self.spine.start_replica(stage))
                await asyncio.sleep(self.random.uniform(1.0, 4.0))
                if self.random.random() < 0.5:
                    replicas[-1].kill()
        finally:
            for replica in replicas:
                replica.terminate() if self.random.random() < 0.5 else replica.kill()
            for replica in replicas:
                await asyncio.to_thread(replica.wait, 60)
        return f"rebalance storm {stage}"

    async def crash(self) -> str:
        """A stage dies at each named place of its pump, and starts again without it."""
        told = []
        for place in self.random.sample(PLACES, len(PLACES)):
            stage = self.random.choice(STAGES)
            self.spine.kill(stage, how=signal.SIGTERM)
            self.spine.settings[CRASH_AT] = f"{place}:{self.random.randint(1, 3)}"
            process = self.spine.start(stage)
            del self.spine.settings[CRASH_AT]
            try:
                code = await asyncio.to_thread(process.wait, _CRASHES_WITHIN_S)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{stage} never came to {place}: give the run more prompts") from None
            assert code == -signal.SIGKILL, f"{stage} ended by itself ({code})\n{self.spine.log(stage)[-2000:]}"
            self.spine.start(stage)
            told.append(f"{stage} {place}")
        return f"crash {', '.join(told)}"

    # ------------------------------------------------------------------------------------- servers

    async def kill_servers(self) -> str:
        return await self._break_servers("kill")

    async def pause_servers(self) -> str:
        return await self._break_servers("pause")

    async def _break_servers(self, how: str) -> str:
        chosen = self.random.sample(SERVERS, len(SERVERS))
        for server in chosen:
            await asyncio.to_thread(self._break, server, how)
        return f"{how} {' '.join(chosen)}"

    def _break(self, server: str, how: str) -> None:
        with broken(needs_control(), server, how):
            time.sleep(self.random.uniform(1.0, 3.0))

    async def store_errors(self) -> str:
        """The store refuses, then does what it is asked and says nothing."""
        for mood in ("busy", "deaf"):
            self.s3.mood = mood
            await asyncio.sleep(5.0)
        self.s3.mood = "fair"
        return f"store: {self.s3.num_befallen}"

    async def slow_network(self) -> str:
        """A fifth of a second on every answer of every server."""
        toxic = {"type": "latency", "attributes": {"latency": 200, "jitter": 100}}
        return await self._toxic("slow", toxic, for_s=8.0)

    async def cut_network(self) -> str:
        """Every connection is reset in the middle of what it carries."""
        toxic = {"type": "reset_peer", "attributes": {"timeout": 100}}
        return await self._toxic("cut", toxic, for_s=4.0)

    async def _toxic(self, name: str, toxic: dict[str, Any], *, for_s: float) -> str:
        proxies = await asyncio.to_thread(self._ask, "GET", "/proxies", None)
        try:
            for proxy in proxies:
                await asyncio.to_thread(self._ask, "POST", f"/proxies/{proxy}/toxics", {"name": name, **toxic})
            await asyncio.sleep(for_s)
        finally:
            for proxy in proxies:
                await asyncio.to_thread(self._ask, "DELETE", f"/proxies/{proxy}/toxics/{name}", None)
        return f"{name} network: {' '.join(sorted(proxies))}"

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        content = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.toxiproxy + path, data=content, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            said = answer.read()
        return json.loads(said) if said else None

    # --------------------------------------------------------------------- what a protection is for

    async def rewind(self) -> str:
        """Everything that the judge has read, some of it done long ago, comes to it again."""
        await self.spine.wait_progress(self.run, _DONE_BEFORE_REWIND)
        self.spine.kill("judge", how=signal.SIGTERM)
        await asyncio.to_thread(_rewind, self.spine.bus, "judge", TRAJECTORIES.name)
        self.spine.start("judge")
        return "rewind judge"

    async def refused_writes(self) -> str:
        """The broker refuses every verdict for a while: they are older than it allows."""
        await asyncio.to_thread(_allow_age, self.spine.bus, 0)
        try:
            await asyncio.sleep(5.0)
        finally:
            await asyncio.to_thread(_allow_age, self.spine.bus, _ANY_AGE_MS)
        return "verdicts refused"

    async def damaged_plan(self) -> str:
        """The plan's blob reads differently for a while, and everybody reads it anew: nothing may be made by it."""
        for service in tuple(self.spine.processes):
            self.spine.kill(service)
        record = await self.spine.tables.runs.get(self.run)
        assert record is not None
        store = self.spine.workspace.store
        whole = await store.get(record.plan)
        damaged = whole.replace(b'"temperature": 0.6', b'"temperature": 0.7', 1)
        assert damaged != whole
        bucket = store.bucket  # type: ignore[attr-defined]  # the cluster's store is S3
        await bucket.put(name_of(record.plan), damaged)
        self.spine.start_all()
        await asyncio.sleep(_DAMAGED_S)
        await bucket.put(name_of(record.plan), whole)
        for service in tuple(self.spine.processes):
            self.spine.kill(service)
        self.spine.start_all()
        return "damaged plan"


DAMAGED_PLAN = "damaged_plan"
"""Before anything is worked on; see `Faults.damaged_plan`."""
KINDS = (
    "kill",
    "kill_stages",
    "freeze",
    "storm",
    "crash",
    "kill_servers",
    "pause_servers",
    "store_errors",
    "slow_network",
    "cut_network",
)
"""What every run must withstand."""


def _rewind(bus: str, group: str, topic: str) -> None:
    """Have a group without members read a topic from its beginning."""
    from kafka.admin import OffsetSpec

    settings = settings_of(bus)
    joined = settings.named(f"{group}.{topic}")  # a group for each topic: see `KafkaBus`
    admin = open_admin(settings)
    try:
        admin.describe_topics([settings.named(topic)])  # the client learns who the brokers are
        read = admin.list_group_offsets([joined])[joined]
        assert read, f"{group} has read nothing"
        admin.reset_group_offsets(joined, dict.fromkeys(read, OffsetSpec.EARLIEST))
    finally:
        admin.close()


def _allow_age(bus: str, age_ms: int) -> None:
    """How old a verdict may be when it reaches the broker."""
    from kafka.admin import ConfigResource, ConfigResourceType

    settings = settings_of(bus)
    admin = open_admin(settings)
    try:
        limit = {"message.timestamp.before.max.ms": str(age_ms)}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.named(VERDICTS.name), limit)])
    finally:
        admin.close()
