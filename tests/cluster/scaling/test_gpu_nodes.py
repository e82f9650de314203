"""Placement on GPU nodes, quotas, a hundred replicas and the arbiter of a shared pool, with the cluster's own scheduler
and controllers on simulated nodes."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.operator.sites import Site, open_site, operator
from tests.cluster.scaling.gpu_nodes import GPUS, gpu_nodes, until

from tracemend.trainer.operator.pool import POOL_LABEL

ROOT = Path(__file__).parents[3]
QUOTAS = ROOT / "k8s" / "cluster" / "quotas.yaml"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as opened:
        yield opened


async def deploy(site: Site, placed: Mapping[str, Any], *, replicas: int) -> None:
    """Generators of one GPU each, members of the shared pool, spread over nodes."""
    app = {"app": "generator"}
    gpus = {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    inside = {
        **copy.deepcopy(dict(placed)),
        "containers": [{"name": "engine", "image": "localhost/none:1", "resources": gpus}],
        "topologySpreadConstraints": [{**spread, "labelSelector": {"matchLabels": app}}],
        "terminationGracePeriodSeconds": 1,
    }
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": app},
        "template": {"metadata": {"labels": app}, "spec": inside},
    }
    body = {"metadata": {"name": "generator", "labels": {POOL_LABEL: "shared"}}, "spec": spec}
    await site.api.call("POST", f"/apis/apps/v1/namespaces/{site.namespace}/deployments", body=body)


async def deployment(site: Site) -> Any:
    return await site.api.call("GET", f"/apis/apps/v1/namespaces/{site.namespace}/deployments/generator")


async def num_ready(site: Site) -> int:
    return int((await deployment(site))["status"].get("readyReplicas", 0))


async def placed_on(site: Site) -> Counter[str]:
    """How many generators each node has; under no name those that wait."""
    query = {"labelSelector": "app=generator"}
    found = await site.api.call("GET", f"/api/v1/namespaces/{site.namespace}/pods", query=query)
    assert found is not None
    return Counter(pod["spec"].get("nodeName", "") for pod in found["items"])


async def test_a_hundred_replicas_fill_the_gpus_of_their_nodes_and_no_more(site: Site) -> None:
    async with gpu_nodes(site, 13) as placed:
        began_s = time.monotonic()
        await deploy(site, placed, replicas=100)
        await until(lambda: num_ready(site), lambda ready: ready == 100)
        print(f"100 replicas were ready after {time.monotonic() - began_s:.1f} s")
        nodes = await placed_on(site)
        assert len(nodes) == 13
        assert max(nodes.values()) <= GPUS
        path = f"/apis/apps/v1/namespaces/{site.namespace}/deployments/generator"
        await site.api.call("PATCH", path, body={"spec": {"replicas": 120}})
        await until(lambda: placed_on(site), lambda found: found.total() == 120)
        await until(lambda: num_ready(site), lambda ready: ready == 13 * GPUS)
        assert (await placed_on(site))[""] == 120 - 13 * GPUS, "the others wait for a GPU"


async def test_the_quota_ends_what_an_autoscaler_may_take(site: Site) -> None:
    quotas = list(yaml.safe_load_all(QUOTAS.read_text(encoding="utf-8")))
    for quota in quotas:
        await site.api.call("POST", f"/api/v1/namespaces/{site.namespace}/{quota['kind'].lower()}s", body=quota)
    allowed = int(quotas[0]["spec"]["hard"]["requests.nvidia.com/gpu"])
    async with gpu_nodes(site, 2) as placed:
        await deploy(site, placed, replicas=allowed + 2)
        await until(lambda: num_ready(site), lambda ready: ready == allowed)

        async def refusal() -> str:
            conditions = (await deployment(site))["status"].get("conditions", [])
            return next((each["message"] for each in conditions if each["type"] == "ReplicaFailure"), "")

        assert "exceeded quota: tracemend-gpus" in await until(refusal, bool)
        assert sum((await placed_on(site)).values()) == allowed


async def test_generators_make_room_for_a_training_on_two_nodes_and_come_back(site: Site, tmp_path: Path) -> None:
    async with gpu_nodes(site, 2) as placed:
        await place_jobs(site, placed)
        await deploy(site, placed, replicas=2 * GPUS)
        await until(lambda: num_ready(site), lambda ready: ready == 2 * GPUS)
        with operator(site, tmp_path, TRACEMEND_GPU_POOL="shared"):
            key = await site.create("a", nodes=2, gpusPerNode=GPUS)

            async def phase() -> str:
                return str((await site.read(key)).get("status", {}).get("phase"))

            await until(phase, lambda now: now == "Succeeded")
            await until(lambda: num_ready(site), lambda ready: ready == 2 * GPUS)
        listed = await site.api.call("GET", f"/api/v1/namespaces/{site.namespace}/pods")
        assert listed is not None
        pods = [pod for pod in listed["items"] if pod["metadata"]["labels"].get("tracemend.dev/run")]
        assert len({pod["spec"]["nodeName"] for pod in pods}) == len(pods) == 2, "each has a node's GPUs to itself"


async def place_jobs(site: Site, placed: Mapping[str, Any]) -> None:
    """The namespace's pod template, with jobs on the test's nodes."""
    path = f"/api/v1/namespaces/{site.namespace}/podtemplates/job"
    found: Any = await site.api.call("GET", path)
    inside = found["template"]["spec"] | {**placed, "schedulerName": None, "terminationGracePeriodSeconds": 1}
    await site.api.call("PATCH", path, body={"template": {"spec": inside}})
