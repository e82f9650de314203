"""The real KEDA, told by the chart's own ScaledObject, takes generators from none to several and back to none.

Kubernetes' autoscaler, KEDA's operator and its adapter are real, as are Kafka and the replicas; this test plays the
kubelet: processes follow the replicas that the Deployment is to have.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.charts.chart_values import EXTERNAL, Manifest, merged, one, rendered
from tests.cluster.runs_compared import embedded, facts_of_run, null_run
from tests.cluster.scaling.keda import Keda, running_keda
from tests.cluster.scaling.test_generator_on_lag import ENDED_WELL, Deployment
from tests.cluster.spine import SERVICES, Spine
from tests.servers import broken, needs_control

from tracemend.adapters.kafka_clients import settings_of
from tracemend.embedded.runfile import RunFile
from tracemend.kit.run_states import RunState

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]

MOST = 3
POLLING_S, COOLDOWN_S = 2, 8
QUIET_S = 30.0
"""How long nothing is waited for; the autoscaler of Kubernetes looks every 15 seconds."""


def release(spine: Spine) -> list[Manifest]:
    """What the chart makes of the generator: its Deployment, its account and what scales it."""
    settings = settings_of(spine.bus)
    values = merged(
        EXTERNAL,
        unsafeDev=True,
        kafka={
            "bootstrapServers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            "securityProtocol": "PLAINTEXT",
            "namespace": settings.namespace,
        },
        targets=[{"name": spine.target}],
        autoscaling={
            "enabled": True,
            "pollingSeconds": POLLING_S,
            "cooldownSeconds": COOLDOWN_S,
            "scaleDownWindowSeconds": 20,
        },
        services={"generator": {"maxReplicas": MOST, "lagPerReplica": 8}},
    )
    name = f"generator-{spine.target}"
    objects = [
        each
        for each in rendered(values)
        if each["kind"] == "ServiceAccount"
        or (each["kind"] in ("Deployment", "ScaledObject") and each["metadata"]["name"].endswith(name))
    ]
    return [*objects, *secrets_of(one(objects, "Deployment", f"t-tracemend-{name}"))]


def secrets_of(deployment: Manifest) -> list[Manifest]:
    """Those that its variables come from, with values of no use: KEDA reads them all before it looks at Kafka."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    sources = (variable.get("valueFrom", {}).get("secretKeyRef") for variable in container["env"])
    values: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for source in filter(None, sources):
        values[source["name"]][source["key"]] = "unused"
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        for name, data in values.items()
    ]


@dataclass(kw_only=True)
class Site:
    """The generator's Deployment on Kubernetes, and its replicas as processes."""

    keda: Keda
    spine: Spine
    name: str
    deployment: Deployment

    def wanted(self) -> int:
        return int(self.keda.get("deployment", self.name)["spec"]["replicas"])

    async def until(self, number: int, *, within_s: float, as_processes: bool = True) -> None:
        """Look until so many replicas are wanted, and run as many meanwhile."""
        ends_at = time.monotonic() + within_s
        while time.monotonic() < ends_at:
            wanted = await asyncio.to_thread(self.wanted)
            if as_processes:
                await asyncio.to_thread(self.deployment.scale, wanted)
            if wanted == number:
                return
            await asyncio.sleep(0.5)
        raise AssertionError(f"replicas {self.deployment.numbers}\n{self.keda.told()}")

    async def seen(self, seconds: float) -> set[int]:
        """The numbers of replicas that are wanted for so long."""
        seen, ends_at = set(), time.monotonic() + seconds
        while time.monotonic() < ends_at:
            seen.add(await asyncio.to_thread(self.wanted))
            await asyncio.sleep(0.5)
        return seen


async def test_keda_takes_generators_from_none_to_several_to_none(tmp_path: Path) -> None:
    settings = null_run(limit=1_000, engine_options={"delay_s": 0.2, "jitter_s": 0.2})
    expected = await embedded(settings, tmp_path / "embedded", cache=tmp_path)
    with running_keda(tmp_path) as keda:
        async with Spine.on_servers(tmp_path, TRACEMEND_CONCURRENCY="8") as spine:
            objects = release(spine)
            name = next(each["metadata"]["name"] for each in objects if each["kind"] == "Deployment")
            deployment = Deployment(spine, random.Random(7))
            site = Site(keda=keda, spine=spine, name=name, deployment=deployment)
            try:
                await check(site, objects, settings, expected)
            finally:
                deployment.kill()
    assert {process.returncode for process in deployment.told} <= set(ENDED_WELL)


async def check(site: Site, objects: list[Manifest], settings: RunFile, expected: Any) -> None:
    keda, spine = site.keda, site.spine
    keda.apply(objects)
    # A Deployment that says no number is made with one replica, which goes at the first look at Kafka.
    await site.until(0, within_s=60, as_processes=False)
    assert await site.seen(QUIET_S) == {0}, "a fresh installation without messages stays at none"

    spine.start_all([service for service in SERVICES if service != "generator"])
    run = await spine.submit(settings)
    await site.until(MOST, within_s=180)
    keda.apply(objects)
    assert await asyncio.to_thread(site.wanted) == MOST, "an upgrade leaves the replicas to who scales them"
    with broken(needs_control(), "kafka-1", "pause"):
        assert await site.seen(QUIET_S) == {MOST}, "where Kafka does not answer, what is there stays"

    await site.until(0, within_s=400)
    await spine.wait_until(run, RunState.DONE, within_s=60)
    assert await facts_of_run(spine.workspace, run) == expected
    assert await site.seen(QUIET_S) == {0}
