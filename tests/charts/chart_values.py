"""Sets of values that between them reach every branch of the chart, and the chart rendered with them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tests.needs import needs_tool

CHART = Path(__file__).parents[2] / "charts" / "tracemend"
OLDEST, NEWEST = "1.31.0", "1.36.0"
"""Kubernetes, as the chart is rendered for it."""

Values = Mapping[str, Any]
Manifest = dict[str, Any]

EXTERNAL: Values = {
    "kafka": {"bootstrapServers": "kafka-1.example.com:9094,kafka-2.example.com:9094", "existingSecret": "kafka"},
    "store": {"endpoint": "https://s3.example.com", "existingSecret": "store"},
    "postgresql": {"existingSecret": "ledger"},
    "rpc": {"tlsSecret": "tls", "tokensSecret": "tokens"},
    "targets": [{"name": "small", "gpus": 1}],
}
DEV: Values = {
    "unsafeDev": True,
    "kafka": {"mode": "dev"},
    "store": {"mode": "dev", "existingSecret": "store"},
    "postgresql": {"mode": "dev", "existingSecret": "ledger"},
    "targets": [{"name": "null"}],
    "settings": {"rpc": {"anonymous_roles": ["submitter"]}},
    "operator": {"enabled": False},
    "podDisruptionBudgets": False,
}
STRIMZI: Values = {
    **EXTERNAL,
    "kafka": {"mode": "strimzi", "namespace": "team", "strimzi": {"storageClassName": "fast"}},
    "autoscaling": {"enabled": True},
}
FULL: Values = {
    **EXTERNAL,
    "imageRegistry": "registry.example.com/mirror",
    "imagePullSecrets": ["pull"],
    "commonLabels": {"team": "alignment"},
    "kafka": {**EXTERNAL["kafka"], "caSecret": "kafka-ca", "namespace": "team", "cidrs": ["10.1.0.0/16"]},
    "store": {**EXTERNAL["store"], "caSecret": "store-ca", "prefix": "runs", "cidrs": ["10.2.0.0/16"]},
    "rpc": {**EXTERNAL["rpc"], "pageKeySecret": "pages", "serviceType": "LoadBalancer"},
    "targets": [
        {"name": "small", "gpus": 1, "replicas": 0},
        {"name": "large", "gpus": 8, "shm": "16Gi", "replicas": 2, "resources": {"limits": {"memory": "1Ti"}}},
    ],
    "gpu": {"pool": "shared", "nodeSelector": {"pool": "gpu"}, "runtimeClassName": "nvidia"},
    "services": {
        "judge": {
            "env": {"HTTPS_PROXY": "http://proxy:3128"},
            "envFrom": [{"secretRef": {"name": "endpoints"}}],
            "kafkaSecret": "judge-kafka",
            "storeSecret": "judge-store",
            "ledgerSecret": "judge-ledger",
            "podAnnotations": {"a": "b"},
        },
        "generator": {
            "volumes": [{"name": "more", "emptyDir": {}}],
            "volumeMounts": [{"name": "more", "mountPath": "/m"}],
        },
    },
    "jobs": {"gpus": 8, "nodes": 2, "folderClaim": "jobs", "queue": "trainings", "shm": "16Gi"},
    "models": [
        {
            "name": "base",
            "path": "/models/base",
            "claim": "base",
            "hydrate": {
                "enabled": True,
                "image": "docker.io/library/fetch@sha256:" + "0" * 64,
                "command": ["fetch", "it"],
                "checksums": {"configMap": "base-sums"},
            },
        },
        {"name": "guard", "path": "/models/guard", "image": "registry.example.com/guard@sha256:" + "1" * 64},
    ],
    "modelServers": [{"name": "guard", "model": "/models/guard", "args": ["--max-model-len=8192"]}],
    "autoscaling": {"enabled": True},
    "monitoring": {each: {"enabled": True} for each in ("podMonitor", "rules", "dashboards")},
    "networkPolicy": {
        "clients": [{"namespaceSelector": {"matchLabels": {"name": "clients"}}}],
        "scrapers": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "telemetry": [{"namespaceSelector": {"matchLabels": {"name": "tracing"}}}],
        "egress": [{"name": "teacher", "components": ["corrector"], "cidrs": ["203.0.113.0/24"]}],
    },
    "tests": {"tokenSecret": "token"},
}
SETS: Mapping[str, Values] = {"external": EXTERNAL, "dev": DEV, "strimzi": STRIMZI, "full": FULL}


def merged(values: Values, **changes: Any) -> dict[str, Any]:
    """`values` with `changes`, mappings merged."""
    result = dict(values)
    for key, change in changes.items():
        old = result.get(key)
        result[key] = merged(old, **change) if isinstance(old, Mapping) and isinstance(change, Mapping) else change
    return result


def template(
    values: Values,
    *,
    kubernetes: str = NEWEST,
    chart: Path = CHART,
    options: Sequence[str] = (),
    helm: str = "helm",
) -> subprocess.CompletedProcess[str]:
    """What `helm template` says; `helm` is the executable's name."""
    told = ["--namespace", "tm", "--kube-version", kubernetes, "--values", "-", *options]
    return subprocess.run(
        [needs_tool(helm), "template", "t", chart, *told],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HELM_COLOR": "never"},
    )


def rendered(values: Values, *, kubernetes: str = NEWEST) -> list[Manifest]:
    """The objects that the chart makes of `values`."""
    ended = template(values, kubernetes=kubernetes)
    assert ended.returncode == 0, ended.stderr
    return [each for each in yaml.safe_load_all(ended.stdout) if each]


def refused(values: Values) -> str:
    """Why the chart takes `values` not."""
    ended = template(values)
    assert ended.returncode != 0, "the chart takes these values"
    return ended.stderr


def one(objects: list[Manifest], kind: str, name: str) -> Manifest:
    """The object of that kind and name."""
    found = [each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def pods(objects: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Every pod's metadata and spec, whatever makes it, with a name for messages."""
    for each in objects:
        name = f"{each['kind']} {each['metadata']['name']}"
        match each["kind"]:
            case "Pod":
                yield name, each
            case "PodTemplate":
                yield name, each["template"]
            case "Deployment" | "StatefulSet" | "Job":
                yield name, each["spec"]["template"]


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
