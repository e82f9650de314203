"""A shared pool on a real API server: generators leave while a TrainingRun is at work, and come back as they were."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.operator.sites import CRDS, NOBODY, Site, open_site, operator, served

from tracemend.trainer.operator.pool import PAUSED_AT, POOL_LABEL

SCALED = "scaledobjects.keda.sh"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as opened:
        yield opened


@pytest.fixture
async def keda(site: Site) -> AsyncIterator[None]:
    """ScaledObjects that nobody works on, where the cluster has no KEDA."""
    path = f"{CRDS}/{SCALED}"
    is_there = await site.api.call("GET", path) is not None
    if not is_there:
        anything = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        version = {"name": "v1alpha1", "served": True, "storage": True, "schema": anything}
        names = {"kind": "ScaledObject", "plural": "scaledobjects", "singular": "scaledobject"}
        spec = {"group": "keda.sh", "scope": "Namespaced", "names": names, "versions": [version]}
        kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
        await site.api.call("POST", CRDS, body={**kind, "metadata": {"name": SCALED}, "spec": spec})
    try:
        await served(site.api, scaled_path(site))
        yield
    finally:
        if not is_there:
            await site.api.call("DELETE", path)


def scaled_path(site: Site, name: str = "") -> str:
    return f"/apis/keda.sh/v1alpha1/namespaces/{site.namespace}/scaledobjects/{name}".rstrip("/")


def deployment_path(site: Site, name: str = "") -> str:
    return f"/apis/apps/v1/namespaces/{site.namespace}/deployments/{name}".rstrip("/")


async def deploy(site: Site, name: str, *, replicas: int, is_member: bool = True) -> None:
    labels = {POOL_LABEL: "shared"} if is_member else {}
    inside = {"schedulerName": NOBODY, "containers": [{"name": "a", "image": "x"}]}  # no pod of it ever runs
    pod = {"metadata": {"labels": {"app": name}}, "spec": inside}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": pod}
    body = {"metadata": {"name": name, "labels": labels}, "spec": spec}
    await site.api.call("POST", deployment_path(site), body=body)


async def scale_on_lag(site: Site, name: str) -> None:
    about = {"name": name, "labels": {POOL_LABEL: "shared"}}
    spec = {"scaleTargetRef": {"name": name}, "triggers": [{"type": "cron", "metadata": {}}]}
    body = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": about, "spec": spec}
    await site.api.call("POST", scaled_path(site), body=body)


async def until(look: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    for _ in range(300):
        found = await look()
        if holds(found):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(found)


async def test_generators_leave_for_a_run_and_come_back_from_another_operator(
    site: Site, keda: None, tmp_path: Path
) -> None:
    await deploy(site, "generator", replicas=3)
    await deploy(site, "other", replicas=2, is_member=False)
    await scale_on_lag(site, "on-lag")

    async def state() -> tuple[int, int, str | None]:
        replicas = [
            (await site.api.call("GET", deployment_path(site, name)))["spec"]["replicas"]  # type: ignore[index]
            for name in ("generator", "other")
        ]
        scaled: Any = await site.api.call("GET", scaled_path(site, "on-lag"))
        return replicas[0], replicas[1], scaled["metadata"].get("annotations", {}).get(PAUSED_AT)

    shared = {"TRACEMEND_GPU_POOL": "shared"}
    with operator(site, tmp_path, **shared):
        assert await state() == (3, 2, None)
        await site.create("a")
        await until(state, lambda now: now == (0, 2, "0"))
    await site.end_pods("trainingrun-a-1")
    assert await state() == (0, 2, "0"), "nobody is there to give it back"
    with operator(site, tmp_path, **shared):
        await until(state, lambda now: now == (3, 2, None))


async def test_a_queued_run_leaves_generators_at_work_until_it_is_admitted(site: Site, tmp_path: Path) -> None:
    await deploy(site, "generator", replicas=2)

    async def replicas() -> Any:
        return (await site.api.call("GET", deployment_path(site, "generator")))["spec"]["replicas"]  # type: ignore[index]

    with operator(site, tmp_path, TRACEMEND_GPU_POOL="shared"):
        key = await site.create("a", queueName="gpus")
        await until(lambda: site.read(key), lambda run: run.get("status", {}).get("phase") == "Queued")
        assert await replicas() == 2
        job = f"/apis/batch/v1/namespaces/{site.namespace}/jobs/trainingrun-a-1"
        await site.api.call("PATCH", job, body={"spec": {"suspend": False}})  # as Kueue admits it
        await until(replicas, lambda now: now == 0)
        await site.change(key, suspend=True)
        await until(replicas, lambda now: now == 2)
