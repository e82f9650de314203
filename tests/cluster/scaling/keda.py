"""The real KEDA as two processes beside a Kubernetes API: its operator, and the adapter by which the autoscaler of
Kubernetes asks it for metrics. TRACEMEND_KEDA names the folder that k8s/third-party/build-keda fills.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.certificates import Authority
from tests.cluster.spine import free_port
from tests.needs import needs_keda, needs_kubernetes, needs_tool

_METRICS = "v1beta1.external.metrics.k8s.io"
_READY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Keda:
    """KEDA at work, and a namespace for what it is to scale."""

    namespace: str
    logs: Sequence[Path]

    def apply(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """As an installation or an upgrade does: whoever else owns a field keeps it."""
        kubectl("apply", "--server-side", "--namespace", self.namespace, "--filename", "-", objects=objects)

    def get(self, kind: str, name: str) -> Any:
        return json.loads(kubectl("get", kind, name, "--namespace", self.namespace, "--output", "json"))

    def told(self) -> str:
        """The ends of the logs."""
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in self.logs)


def kubectl(*arguments: str | Path, objects: Sequence[Mapping[str, Any]] = ()) -> str:
    """What kubectl prints; `objects` on its standard input."""
    ended = subprocess.run(
        [needs_tool("kubectl"), *arguments],
        input="\n---\n".join(map(json.dumps, objects)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@contextlib.contextmanager
def running_keda(folder: Path) -> Iterator[Keda]:
    """Install the definitions, start both processes, and wait until the API server gets metrics from them."""
    programs, kubeconfig = needs_keda(), needs_kubernetes()
    system, namespace = f"keda-{secrets.token_hex(4)}", f"scaled-{secrets.token_hex(4)}"
    kubectl("apply", "--server-side", "--force-conflicts", "--filename", programs / "crds")
    certificates = _certificates(folder / "certificates")
    metrics, adapter, health, numbers = (free_port() for _ in range(4))
    logs = folder / "operator.log", folder / "adapter.log"
    own = {"WATCH_NAMESPACE": namespace, "KEDA_CLUSTER_OBJECT_NAMESPACE": system, "POD_NAMESPACE": system}
    environ = {**os.environ, **own}
    operator = [
        f"{programs}/keda-operator",
        f"--kubeconfig={kubeconfig}",
        f"--cert-dir={certificates}",
        "--enable-apiservice-patching=false",
        "--enable-webhook-patching=false",
        f"--metrics-service-bind-address=127.0.0.1:{metrics}",
        f"--health-probe-bind-address=127.0.0.1:{health}",
        f"--metrics-bind-address=127.0.0.1:{numbers}",
    ]
    reading = [
        f"{programs}/keda-adapter",
        *(f"--{what}kubeconfig={kubeconfig}" for what in ("", "authentication-", "authorization-", "lister-")),
        f"--secure-port={adapter}",
        f"--port={free_port()}",
        f"--tls-cert-file={certificates}/tls.crt",
        f"--tls-private-key-file={certificates}/tls.key",
        f"--cert-dir={certificates}",
        f"--metrics-service-address=localhost:{metrics}",
    ]
    kubectl("create", "--filename", "-", objects=[_named("Namespace", system), _named("Namespace", namespace)])
    try:
        kubectl("apply", "--filename", "-", objects=_as_an_api(system, port=adapter))
        with _process(operator, environ, logs[0]), _process(reading, environ, logs[1]):
            keda = Keda(namespace=namespace, logs=logs)
            _wait_for_metrics(keda)
            yield keda
    finally:
        kubectl("delete", "apiservice", _METRICS, "--ignore-not-found")
        for scaled in kubectl("get", "scaledobjects", "--namespace", namespace, "--output", "name").split():
            kubectl("patch", scaled, "--namespace", namespace, "--type=merge", "--patch", _LET_GO)
        kubectl("delete", "namespace", system, namespace, "--wait=false")


def _named(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}


_LET_GO = json.dumps({"metadata": {"finalizers": None}})
"""No operator is left to take the finaliser away."""


def _certificates(folder: Path) -> Path:
    """A folder as KEDA wants it, for both sides of the connection between its two processes."""
    authority = Authority(folder, name="ca")
    issued = authority.issue("localhost", file="tls")
    assert issued.cert_file.name == "tls.crt"
    shutil.copy(authority.ca_file, folder / "ca.crt")
    return folder


def _as_an_api(namespace: str, *, port: int) -> list[dict[str, Any]]:
    """The adapter, which is no pod, as the API server's source of external metrics. Endpoints may not be loopback."""
    name, number = "metrics", {"name": "https", "port": 443}
    slice_name = {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}}
    return [
        {**_named("Service", name), "metadata": {"name": name, "namespace": namespace}, "spec": {"ports": [number]}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": slice_name,
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [_own_address()], "conditions": {"ready": True}}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": _METRICS},
            "spec": {
                "service": {"name": name, "namespace": namespace, "port": 443},
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]


def _own_address() -> str:
    """This machine's address towards others; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        address: str = probe.getsockname()[0]
        return address


@contextlib.contextmanager
def _process(command: Sequence[str], environ: Mapping[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=dict(environ), stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_metrics(keda: Keda) -> None:
    ends_at = time.monotonic() + _READY_S
    while time.monotonic() < ends_at:
        told = json.loads(kubectl("get", "apiservice", _METRICS, "--output", "json"))
        conditions = {each["type"]: each["status"] for each in told["status"].get("conditions", [])}
        if conditions.get("Available") == "True":
            return
        time.sleep(0.5)
    raise AssertionError(keda.told())
