"""Simulated GPU nodes of a test's own (kwok): pods are really placed, counted and limited there, and nothing runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import pytest
from tests.cluster.operator.sites import Site

LABEL = "tracemend.dev/test-nodes"
GPUS = 8
Found = TypeVar("Found")


@contextlib.asynccontextmanager
async def gpu_nodes(site: Site, number: int) -> AsyncIterator[Mapping[str, Any]]:
    """`number` nodes of 8 GPUs each, as what a pod's spec says to be placed there and nowhere else."""
    mark = site.namespace
    capacity = {"cpu": "96", "memory": "1Ti", "ephemeral-storage": "1Ti", "pods": "110", "nvidia.com/gpu": str(GPUS)}
    names = [f"{mark}-{index}" for index in range(number)]
    for name in names:
        labels = {LABEL: mark, "nvidia.com/gpu.present": "true", "kubernetes.io/hostname": name, "type": "kwok"}
        about = {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}
        taint = {"key": LABEL, "value": mark, "effect": "NoSchedule"}
        status = {"capacity": capacity, "allocatable": capacity}
        await site.api.call(
            "POST", "/api/v1/nodes", body={"metadata": about, "spec": {"taints": [taint]}, "status": status}
        )
    try:
        await _simulated(site, names)
        toleration = {"key": LABEL, "operator": "Equal", "value": mark, "effect": "NoSchedule"}
        yield {"nodeSelector": {LABEL: mark}, "tolerations": [toleration]}
    finally:
        for name in names:
            await site.api.call("DELETE", f"/api/v1/nodes/{name}")


async def _simulated(site: Site, names: list[str]) -> None:
    """Where nobody makes nodes ready, the cluster has no kwok: skip, unless TRACEMEND_REQUIRE names kubernetes."""

    async def num_ready() -> int:
        nodes = [await site.api.call("GET", f"/api/v1/nodes/{name}") for name in names]
        told = [(node or {}).get("status", {}).get("conditions", []) for node in nodes]
        return sum(any(one["type"] == "Ready" and one["status"] == "True" for one in each) for each in told)

    try:
        await until(num_ready, lambda ready: ready == len(names), within_s=30)
    except AssertionError:
        if "kubernetes" in os.environ.get("TRACEMEND_REQUIRE", "").split(","):
            raise
        pytest.skip("needs simulated nodes: a cluster with kwok, which makes nodes ready that are annotated for it")


async def until(look: Callable[[], Awaitable[Found]], holds: Callable[[Found], bool], *, within_s: float = 90) -> Found:
    """What `look` finds, once it is right."""
    found = await look()
    for _ in range(int(within_s / 0.2)):
        if holds(found):
            return found
        await asyncio.sleep(0.2)
        found = await look()
    raise AssertionError(found)
