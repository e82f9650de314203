"""A namespace on a real API server with a pod template and a desk: what the operator's tests stand on.

No kubelet is needed, and none interferes: pods stay pending until a test writes what one would report.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.needs import needs_kubernetes

from tracemend.kit.errors import Retry
from tracemend.kit.server_ports import Conflict
from tracemend.runtime.kubernetes import Kubernetes, open_kubernetes
from tracemend.trainer.operator.cluster import PLURALS, KubernetesCluster
from tracemend.trainer.operator.crds import definitions
from tracemend.trainer.operator.desk import Desk, RunKey
from tracemend.trainer.operator.manifests import GROUP, VERSION

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NOBODY = "nobody"
"""The scheduler of pods that tests play: no kubelet of the cluster gets to see them."""
_WAIT_S = 20.0
_START = "import sys; from tracemend.cli.serve import serve; serve('operator', config=None, check=False)"
SPEC = {"run": "run_1", "job": "job_1"}


@dataclass
class Table:
    """What jobs have outside of Kubernetes, as a test says."""

    is_away: bool = False
    told: dict[str, str] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)

    async def progress(self, job: str) -> Mapping[str, str]:
        return dict(self.told)

    async def clean_up(self, job: str) -> None:
        if self.is_away:
            raise Retry("table_away")
        self.cancelled.append(job)


@dataclass
class Site:
    """A namespace with a pod template, and a desk that works on it when told."""

    api: Kubernetes
    namespace: str
    table: Table = field(default_factory=Table)
    now_s: float = 1_800_000_000.0

    def desk(self) -> Desk:
        cluster = KubernetesCluster(api=self.api, namespace=self.namespace, template="job")
        return Desk(cluster=cluster, outside=self.table, clock=lambda: self.now_s)

    async def create(self, name: str, *, kind: str = "TrainingRun", **spec: Any) -> RunKey:
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": kind,
            "metadata": {"name": name},
            "spec": {**SPEC, **({"arm": "base"} if kind == "EvaluationRun" else {}), **spec},
        }
        await self.api.call("POST", self.path(kind), body=body)
        return RunKey(kind, self.namespace, name)

    def path(self, kind: str, name: str = "") -> str:
        return f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{PLURALS[kind]}" + (f"/{name}" if name else "")

    async def change(self, key: RunKey, **spec: Any) -> None:
        await self.api.call("PATCH", self.path(key.kind, key.name), body={"spec": spec})

    async def read(self, key: RunKey) -> Any:
        return await self.api.call("GET", self.path(key.kind, key.name))

    async def status(self, key: RunKey) -> Any:
        return (await self.read(key))["status"]

    async def jobs(self) -> list[Any]:
        found = await self.api.call("GET", f"/apis/batch/v1/namespaces/{self.namespace}/jobs")
        return sorted(found["items"], key=lambda job: job["metadata"]["name"]) if found else []

    async def pods(self, job: str) -> list[Any]:
        """Those that the Job controller has made, once there are some."""
        for _ in range(100):
            query = {"labelSelector": f"batch.kubernetes.io/job-name={job}"}
            found = await self.api.call("GET", f"/api/v1/namespaces/{self.namespace}/pods", query=query)
            if found and found["items"]:
                return list(found["items"])
            await asyncio.sleep(0.1)
        raise AssertionError(f"no pods of {job}")

    async def end_pods(self, job: str, *, code: int = 0, words: str = "", disrupted: bool = False) -> None:
        """What a kubelet reports of pods whose containers have ended."""
        end = {"exitCode": code, "message": words, "finishedAt": "2027-01-15T08:00:00Z"}
        status: dict[str, Any] = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [
                {
                    "name": "job",
                    "image": "x",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"terminated": end},
                }
            ],
        }
        if disrupted:
            status["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
        for pod in await self.pods(job):
            path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
            await self.api.call("PATCH", path, body={"status": status})

    async def until(self, key: RunKey, phase: str, *, desk: Desk | None = None) -> Any:
        """Look again and again, as events would make the desk do, until the run is in `phase`; its status."""
        desk = desk or self.desk()
        for _ in range(150):
            with contextlib.suppress(Conflict, Retry):
                await desk.look(key)
            status = await self.status(key)
            if status.get("phase") == phase:
                return status
            await asyncio.sleep(0.1)
        raise AssertionError(status)


@contextlib.asynccontextmanager
async def open_site() -> AsyncIterator[Site]:
    needs_kubernetes()
    api = open_kubernetes()
    name = f"operator-{secrets.token_hex(4)}"
    for definition in definitions().values():
        path = f"{CRDS}/{definition['metadata']['name']}"
        known = await api.call("GET", path)
        if known is None:
            await api.call("POST", CRDS, body=definition)
        elif known["spec"]["versions"] != definition["spec"]["versions"]:
            await api.call("PATCH", path, body={"spec": definition["spec"]})
    await api.call("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    job = {"name": "job", "image": "x", "env": [{"name": "KEPT", "value": "1"}]}
    pods = {"schedulerName": NOBODY, "containers": [job]}
    template = {"metadata": {"name": "job"}, "template": {"metadata": {"labels": {"own": "label"}}, "spec": pods}}
    for plural in PLURALS.values():
        await served(api, f"/apis/{GROUP}/{VERSION}/namespaces/{name}/{plural}")
    await api.call("POST", f"/api/v1/namespaces/{name}/podtemplates", body=template)
    try:
        yield Site(api=api, namespace=name)
    finally:
        await _release_runs(api, name)
        await api.call("DELETE", f"/api/v1/namespaces/{name}")
        await api.aclose()


async def _release_runs(api: Kubernetes, namespace: str) -> None:
    """No operator is left to take its finaliser away, and the namespace would stay for ever."""
    for plural in PLURALS.values():
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{plural}"
        for run in (await api.call("GET", path) or {"items": []})["items"]:
            await api.call("PATCH", f"{path}/{run['metadata']['name']}", body={"metadata": {"finalizers": None}})


async def served(api: Kubernetes, path: str) -> None:
    """Wait until the API server knows a new kind of resource."""
    async with asyncio.timeout(_WAIT_S):
        while True:
            with contextlib.suppress(Retry):
                if await api.call("GET", path) is not None:
                    return
            await asyncio.sleep(0.1)


@contextlib.contextmanager
def operator(site: Site, folder: Path, *, ledger: str = "", **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """`tracemend serve operator` for a namespace, killed at the end; `settings` are environment variables."""
    log = (folder / "operator.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-c", _START],
        env={
            **os.environ,
            "TRACEMEND_LEDGER": ledger or f"sqlite:{folder / 'ledger.db'}",
            "TRACEMEND_NAMESPACE": site.namespace,
            "TRACEMEND_TEMPLATE": "job",
            "TRACEMEND_HTTP_PORT": "0",
            "TRACEMEND_HTTP_HOST": "127.0.0.1",
            **settings,
        },
        stdout=log,
        stderr=log,
    )
    log.close()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
