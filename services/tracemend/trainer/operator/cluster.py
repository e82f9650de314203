"""`desk.Cluster` over the Kubernetes API: where runs, their Jobs, pods and events lie."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.server_ports import Conflict
from tracemend.runtime.kubernetes import Kubernetes
from tracemend.trainer.operator.desk import RunKey
from tracemend.trainer.operator.manifests import GROUP, RUN_LABEL, VERSION, Json, child_name
from tracemend.trainer.operator.pool import POOL_LABEL

PLURALS: Mapping[str, str] = {"TrainingRun": "trainingruns", "EvaluationRun": "evaluationruns"}
_MEMBERS: Mapping[str, str] = {
    "ScaledObject": "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
}
_PATHS: Mapping[str, str] = {"Job": "/apis/batch/v1/namespaces/{}/jobs", "Service": "/api/v1/namespaces/{}/services"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesCluster:
    """The runs of one namespace."""

    api: Kubernetes
    namespace: str
    template: str
    """Name of the PodTemplate that jobs are made from."""

    async def keys(self) -> Sequence[RunKey]:
        return [_key(run) for run in await self.runs()]

    async def runs(self) -> Sequence[Json]:
        """Every run, as it is now."""
        found: list[Json] = []
        for kind, plural in PLURALS.items():
            runs = await self.api.call("GET", f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{plural}")
            if runs is None:
                raise SetupError(f"the cluster knows no {plural}.{GROUP}: install the chart's custom resources first")
            found += [{**run, "kind": kind} for run in runs["items"]]
        return found

    async def members(self) -> Sequence[Json]:
        """What carries the pool's label; a cluster without KEDA has no ScaledObjects."""
        found: list[Json] = []
        for kind, path in _MEMBERS.items():
            listed = await self.api.call(
                "GET", path.format(self.namespace), query={"labelSelector": f"{POOL_LABEL}=shared"}
            )
            found += [{**member, "kind": kind} for member in (listed or {}).get("items", [])]
        return found

    async def change(self, member: Mapping[str, Any], patch: Mapping[str, Any]) -> None:
        about = member["metadata"]
        path = f"{_MEMBERS[member['kind']].format(self.namespace)}/{about['name']}"
        as_read = {**patch.get("metadata", {}), "resourceVersion": about["resourceVersion"]}
        await self.api.call("PATCH", path, body={**patch, "metadata": as_read})

    async def run(self, key: RunKey) -> Json | None:
        return await self.api.call("GET", _path(key))

    async def jobs(self, run: Mapping[str, Any]) -> Sequence[tuple[Json, Sequence[Json]]]:
        namespace, selector = run["metadata"]["namespace"], {"labelSelector": f"{RUN_LABEL}={child_name(run)}"}
        jobs = await self.api.call("GET", _PATHS["Job"].format(namespace), query=selector)
        pods = await self.api.call("GET", f"/api/v1/namespaces/{namespace}/pods", query=selector)
        by_job: dict[str, list[Json]] = {}
        for pod in (pods or {}).get("items", []):
            by_job.setdefault(_owner(pod), []).append(pod)
        owned = [job for job in (jobs or {}).get("items", []) if _owner(job) == run["metadata"]["uid"]]
        return [(job, by_job.get(job["metadata"]["uid"], [])) for job in owned]

    async def pod_template(self, namespace: str) -> Json:
        found = await self.api.call("GET", f"/api/v1/namespaces/{namespace}/podtemplates/{self.template}")
        if found is None:
            raise SetupError(f"no PodTemplate '{self.template}' in namespace {namespace}: the chart renders it")
        template: Json = found["template"]
        return template

    async def create(self, manifest: Mapping[str, Any]) -> None:
        about = manifest["metadata"]
        path = _PATHS[manifest["kind"]].format(about["namespace"])
        try:
            made = await self.api.call("POST", path, body=manifest)
        except Conflict:
            made = await self.api.call("GET", f"{path}/{about['name']}")
        if made is None or _owner(made) != _owner(manifest):
            raise Retry(f"name_taken: {manifest['kind']} {about['name']} is another owner's; delete it")

    async def delete_job(self, namespace: str, name: str) -> None:
        path = f"{_PATHS['Job'].format(namespace)}/{name}"
        await self.api.call("DELETE", path, query={"propagationPolicy": "Foreground"})

    async def write_status(self, run: Mapping[str, Any], told: Mapping[str, Any]) -> Json:
        path = f"{_path(_key(run))}/status"
        return _there(await self.api.call("PUT", path, body={**run, "status": told}))

    async def set_finalizers(self, run: Mapping[str, Any], finalizers: Sequence[str]) -> Json:
        about = {"finalizers": list(finalizers), "resourceVersion": run["metadata"]["resourceVersion"]}
        path = _path(_key(run))
        return _there(await self.api.call("PATCH", path, body={"metadata": about}))

    async def delete_run(self, key: RunKey) -> None:
        await self.api.call("DELETE", _path(key), query={"propagationPolicy": "Foreground"})

    async def note(self, run: Mapping[str, Any], *, reason: str, message: str, is_warning: bool) -> None:
        about = run["metadata"]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": f"{about['name']}-", "namespace": about["namespace"]},
            "regarding": {
                "apiVersion": run["apiVersion"],
                "kind": run["kind"],
                "name": about["name"],
                "namespace": about["namespace"],
                "uid": about["uid"],
            },
            "eventTime": now,
            "reportingController": f"{GROUP}/operator",
            "reportingInstance": "operator",
            "action": "Reconcile",
            "reason": reason,
            "note": message[:1000],
            "type": "Warning" if is_warning else "Normal",
        }
        path = f"/apis/events.k8s.io/v1/namespaces/{about['namespace']}/events"
        await asyncio.gather(self.api.call("POST", path, body=body), return_exceptions=True)  # people can do without


def _path(key: RunKey) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{key.namespace}/{PLURALS[key.kind]}/{key.name}"


def _key(run: Mapping[str, Any]) -> RunKey:
    return RunKey(run["kind"], run["metadata"]["namespace"], run["metadata"]["name"])


def _owner(child: Mapping[str, Any]) -> str:
    """The uid of its controller: another object of the same name is another owner."""
    owners = child["metadata"].get("ownerReferences", [])
    return next((str(each["uid"]) for each in owners if each.get("controller")), "")


def _there(run: Json | None) -> Json:
    if run is None:
        raise Retry("run_is_gone")
    return run
