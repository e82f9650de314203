"""What processes measure of themselves, for `top`: scrapes of their /metrics, by URL or through a Kubernetes API.

A process that does not answer is a scrape without samples: `top` shows it as away and goes on.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracemend.kit.errors import Retry, SetupError
from tracemend.runtime.kubernetes import KubernetesPages
from tracemend.runtime.program_settings import SERVICES
from tracemend.trainer.operator.cluster import PLURALS
from tracemend.trainer.operator.manifests import GROUP, VERSION
from tracemend.trainer.operator.standing import Phase

_TIMEOUT_S = 3.0
_MAX_BYTES = 16 * 2**20
_OURS = "app.kubernetes.io/part-of=tracemend"
_COMPONENT = "app.kubernetes.io/component"
_PORT_NAME = "http"
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """One time series at one moment."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Scrape:
    """What one process answered."""

    of: str
    """Its address, or its pod's name."""
    samples: tuple[Sample, ...] = ()
    trouble: str = ""
    """Why there are none."""

    def of_name(self, name: str) -> Iterator[Sample]:
        """The samples called `name`."""
        return (sample for sample in self.samples if sample.name == name)

    @property
    def service(self) -> str:
        """Which of our services it is; empty for another program, and for one that did not answer."""
        return next((sample.labels.get("service", "") for sample in self.of_name("tracemend_build_info")), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResource:
    """A TrainingRun or an EvaluationRun that has not ended."""

    kind: str
    run: str
    arm: str
    phase: str
    attempt: int
    step: str
    """`STEP/STEPS` as it told last; empty before that."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a namespace holds of us."""

    scrapes: tuple[Scrape, ...] = ()
    jobs: tuple[JobResource, ...] = ()
    wanted: Mapping[str, int] = field(default_factory=dict)
    """Service to the replicas that its Deployment is to have."""


async def scraped(urls: Sequence[str]) -> tuple[Scrape, ...]:
    """The scrapes of `urls`, at once, in their order."""
    return tuple(await asyncio.gather(*(asyncio.to_thread(_fetched, url) for url in urls)))


async def deployed(api: KubernetesPages, namespace: str) -> Deployed:
    """The scrapes of our pods that run in `namespace`, through the API server, and how many are to be there."""
    base, query = f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": _OURS}
    try:
        pods = await api.call("GET", base, query=query) or {}
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        deployments = await api.call("GET", path, query=query) or {}
        jobs = await _jobs(api, namespace)
    except Retry as away:
        return Deployed(scrapes=(Scrape("kubernetes", trouble=away.reason),))
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(pod: str, port: int) -> Scrape:
        async with slots:
            try:
                return Scrape(pod, read_exposition(await api.page(f"{base}/{pod}:{port}/proxy/metrics")))
            except (Retry, SetupError, KeyError, ValueError) as error:
                return Scrape(pod, trouble=f"{type(error).__name__}: {error}"[:200])

    ports = [(pod["metadata"]["name"], port) for pod in pods.get("items", []) for port in _ports(pod)]
    wanted = Counter[str]()
    for deployment in deployments.get("items", []):
        component = deployment["metadata"]["labels"].get(_COMPONENT, "")
        if component in SERVICES:
            wanted[component] += int(deployment["spec"].get("replicas", 1))
    scrapes = await asyncio.gather(*(one(pod, port) for pod, port in ports))
    return Deployed(scrapes=tuple(scrapes), jobs=jobs, wanted=wanted)


async def _jobs(api: KubernetesPages, namespace: str) -> tuple[JobResource, ...]:
    """The jobs that move; none where the cluster has no such resources."""
    found = []
    for kind, plural in PLURALS.items():
        listed = await api.call("GET", f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{plural}") or {}
        for each in listed.get("items", []):
            spec, status = each["spec"], each.get("status", {})
            phase, told = status.get("phase", Phase.PENDING.value), status.get("progress", {})
            if not Phase(phase).is_final:
                job = JobResource(
                    kind=kind,
                    run=spec["run"],
                    arm=spec.get("arm", ""),
                    phase=phase,
                    attempt=status.get("attempt", 0),
                    step=f"{told['step']}/{told.get('num_steps', '?')}" if "step" in told else "",
                )
                found.append(job)
    return tuple(found)


def read_exposition(text: str) -> tuple[Sample, ...]:
    """The samples of a Prometheus exposition; `ValueError` where it is none."""
    from prometheus_client.parser import text_string_to_metric_families

    families = text_string_to_metric_families(text)
    return tuple(
        Sample(sample.name, sample.labels, sample.value)
        for family in families
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    )


def _fetched(url: str) -> Scrape:
    if not url.startswith(("http://", "https://")):
        raise SetupError(f"'{url}' is no URL of metrics; write http://HOST:PORT/metrics")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # the scheme was looked at
            return Scrape(url, read_exposition(answer.read(_MAX_BYTES).decode(errors="replace")))
    except OSError as error:
        return Scrape(url, trouble=str(getattr(error, "reason", error)))
    except ValueError as error:
        return Scrape(url, trouble=f"no metrics: {error}"[:200])


def _ports(pod: Mapping[str, Any]) -> Iterator[int]:
    """The port of a running pod's metrics, if it has one."""
    if pod.get("status", {}).get("phase") == "Running":
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", []):
                if port.get("name") == _PORT_NAME:
                    yield int(port["containerPort"])
