"""Generators go from none to several and back to none with the lag of their topics, twice, and no item is lost.

The replicas are real processes on a real Kafka. KEDA itself is not here but in `test_keda`: `lag_scaler` is what its
documentation says it computes, and this test plays the Deployment that it would scale.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cluster.runs_compared import embedded, facts_of_run, null_run
from tests.cluster.scaling.lag_scaler import LagScaler, lag_of
from tests.cluster.spine import SERVICES, Spine

from tracemend.adapters.kafka_clients import KafkaSettings, open_admin, settings_of
from tracemend.kit.run_states import RunState
from tracemend.topics import CONTINUATIONS, GENERATIONS, for_target

THRESHOLD = 8
ENDED_WELL = (0, 4)
"""Drained, or given back what could not end in time."""


@dataclass
class Triggers:
    """What a ScaledObject of the generator names: its two topics, each with the group that reads it."""

    settings: KafkaSettings
    target: str
    admin: Any = None

    def lags(self) -> list[int] | None:
        """None where Kafka does not answer now."""
        from kafka.errors import KafkaError

        try:
            self.admin = self.admin or open_admin(self.settings)
            return [self._lag(for_target(topic, self.target)) for topic in (GENERATIONS, CONTINUATIONS)]
        except KafkaError:
            self.admin = None
            return None

    def _lag(self, topic: str) -> int:
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec

        name = self.settings.named(topic)
        (about,) = self.admin.describe_topics([name])
        partitions = [TopicPartition(name, each["partition_index"]) for each in about["partitions"]]
        ends = self.admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
        group = self.settings.named(f"generator-{self.target}.{topic}")
        committed = self.admin.list_group_offsets([group])[group]
        return lag_of(
            {each.partition: ends[each].offset for each in partitions},
            {each.partition: at.offset for each, at in committed.items() if at.offset >= 0},
            threshold=THRESHOLD,
        )


@dataclass
class Deployment:
    """Replicas of the generator; which of them goes, nobody can say."""

    spine: Spine
    random: random.Random
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    told: list[subprocess.Popen[bytes]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=lambda: [0])

    def scale(self, number: int) -> None:
        assert all(process.poll() is None for process in self.running), self.spine.log("generator")[-3000:]
        while len(self.running) < number:
            self.running.append(self.spine.start_replica("generator"))
        while len(self.running) > number:
            leaving = self.running.pop(self.random.randrange(len(self.running)))
            leaving.send_signal(signal.SIGTERM)
            self.told.append(leaving)
        if number != self.numbers[-1]:
            self.numbers.append(number)

    def ends(self) -> list[int]:
        """Exit codes of those that were told to leave."""
        return [process.wait(timeout=60) for process in self.told]

    def kill(self) -> None:
        for process in (*self.running, *self.told):
            process.kill()
            process.wait()


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_generators_go_from_none_to_several_to_none_and_lose_nothing(tmp_path: Path) -> None:
    settings = null_run(limit=200, engine_options={"delay_s": 0.2, "jitter_s": 0.2})
    expected = await embedded(settings, tmp_path / "embedded", cache=tmp_path)
    async with Spine.on_servers(tmp_path, TRACEMEND_CONCURRENCY="8") as spine:
        deployment = Deployment(spine, random.Random(7))
        triggers = Triggers(settings_of(spine.bus), spine.target)
        scaler = LagScaler(threshold=THRESHOLD, most=3, cooldown_s=6, window_s=3)
        try:
            spine.start_all([service for service in SERVICES if service != "generator"])
            for wave in range(2):
                again = settings.model_copy(update={"seed": settings.seed + wave})
                run = await spine.submit(again)
                await follow(deployment, scaler, triggers, spine, run)
                if wave == 0:
                    assert await facts_of_run(spine.workspace, run) == expected
                assert await settled(triggers) == 0, "nothing waits, and nothing will wake anybody"
        finally:
            deployment.kill()
    assert deployment.numbers[0] == deployment.numbers[-1] == 0
    assert max(deployment.numbers) == 3
    assert deployment.numbers.count(0) == 3, f"none, several, none, several, none: {deployment.numbers}"
    assert {process.returncode for process in deployment.told} <= set(ENDED_WELL)


async def follow(deployment: Deployment, scaler: LagScaler, triggers: Triggers, spine: Spine, run: str) -> None:
    """Poll and scale until the run is done and nobody is left; while a message wakes the first within a poll."""
    ends_at = time.monotonic() + 500
    while time.monotonic() < ends_at:
        lags = await asyncio.to_thread(triggers.lags)
        if lags is not None:  # else as many as there are: `fallback.behavior: currentReplicas`
            deployment.scale(scaler.replicas(lags, now=len(deployment.running), now_s=time.monotonic()))
        record = await spine.tables.runs.get(run)
        assert record is not None
        if record.state is RunState.DONE and not deployment.running:
            assert set(await asyncio.to_thread(deployment.ends)) <= set(ENDED_WELL), spine.log("generator")[-3000:]
            return
        assert not (record.state.is_final and record.state is not RunState.DONE), record
        await asyncio.sleep(1)
    logs = "\n".join(f"--- {name}\n{spine.log(name)[-1500:]}" for name in SERVICES)
    raise AssertionError(f"{run} is not done; replicas {deployment.numbers}\n{logs}")


async def settled(triggers: Triggers) -> int:
    """The lag of both topics, when Kafka tells it."""
    while (lags := await asyncio.to_thread(triggers.lags)) is None:  # noqa: ASYNC110 - nobody tells this process
        await asyncio.sleep(1)
    return sum(lags)


def test_a_group_that_has_committed_nothing_lags_by_everything_and_partitions_are_the_cap() -> None:
    assert lag_of({0: 3, 1: 4}, {}, threshold=8) == 7
    assert lag_of({0: 300, 1: 4}, {0: 299, 1: 4}, threshold=8) == 1
    assert lag_of({0: 300, 1: 4}, {}, threshold=8) == 16


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0.1, 20)), max_size=40))
def test_replicas_stay_within_bounds_and_end_at_none_where_nothing_comes(history: list[tuple[int, float]]) -> None:
    scaler = LagScaler(threshold=8, most=4, cooldown_s=30, window_s=10)
    now, now_s = 0, 0.0
    for lag, wait_s in [*history, *[(0, 10.0)] * 8]:
        now_s += wait_s
        wanted = scaler.replicas([lag], now=now, now_s=now_s)
        assert 0 <= wanted <= 4
        assert wanted >= now - 1 or wanted == 0
        assert wanted >= 1 or lag == 0
        now = wanted
    assert now == 0
