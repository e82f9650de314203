"""Telemetry of a service process: Prometheus metrics in a registry of its own, OpenTelemetry traces.

`program` opens it and serves the exposition. Metrics are made from `kit.telemetry.CATALOGUE`, beside those that a vLLM
engine of this process keeps. A label value of ours is a code that is bounded in form and number, so that neither text
nor ids can become a time series, whatever a caller passes.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from tracemend.kit import telemetry as catalogue
from tracemend.kit.telemetry import CATALOGUE, NO_TRACE, Attribute, Metric, Telemetry
from tracemend.redaction import Text
from tracemend.runtime.program_settings import ProcessSettings
from tracemend.runtime.telemetry_tracing import NO_TRACING, Tracing, open_tracing

MAX_VALUES = 100
"""Values that one label of one metric may take; later ones are counted together as `OTHER`."""
OTHER = "other"

_CODE = re.compile(r"[A-Za-z0-9_./:<>-]{0,80}")


class ProgramTelemetry(Telemetry, Protocol):
    """Telemetry that a process exposes and closes."""

    def exposition(self) -> tuple[bytes, str]:
        """All metrics as Prometheus reads them, and their content type."""
        ...

    def close(self) -> None:
        """Export what is not exported yet; blocks for a few seconds at most."""
        ...


class Labels:
    """Keeps label values to codes, and to few of them."""

    def __init__(self) -> None:
        self._seen: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def bounded(self, metric: Metric, given: Mapping[str, str]) -> tuple[str, ...]:
        """The values for `metric`'s labels, in its order."""
        assert given.keys() == metric.labels.keys(), f"{metric.name} takes the labels {', '.join(metric.labels)}"
        return tuple(self._value(metric.name, label, known, given[label]) for label, known in metric.labels.items())

    def _value(self, name: str, label: str, known: tuple[str, ...], value: str) -> str:
        if known:
            return value if value in known else OTHER
        if isinstance(value, Text) or not _CODE.fullmatch(value):
            return OTHER
        seen = self._seen[name, label]
        if value not in seen:
            if len(seen) >= MAX_VALUES:
                return OTHER
            seen.add(value)
        return value


class EngineMetrics:
    """What vLLM counts in this process: it knows no registry but the default one."""

    def describe(self) -> Sequence[Any]:
        """Nothing is known before an engine is open."""
        return ()

    def collect(self) -> Iterator[Any]:
        from prometheus_client import REGISTRY

        if "vllm" in sys.modules:
            yield from (family for family in REGISTRY.collect() if family.name.startswith("vllm:"))


class ServiceTelemetry:
    """The `Telemetry` of a process."""

    def __init__(self, tracing: Tracing = NO_TRACING) -> None:
        from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

        self._registry = CollectorRegistry()
        for collector in (GCCollector, PlatformCollector, ProcessCollector):
            collector(registry=self._registry)
        self._registry.register(EngineMetrics())
        self._metrics: dict[str, Any] = {name: self._made(metric) for name, metric in CATALOGUE.items()}
        self._labels = Labels()
        self._children: dict[tuple[object, ...], Any] = {}
        self._tracing = tracing

    def _made(self, metric: Metric) -> Any:
        from prometheus_client import Counter, Gauge, Histogram

        labels = tuple(metric.labels)
        match metric.kind:
            case "counter":
                return Counter(metric.name, metric.about, labels, registry=self._registry)
            case "gauge":
                return Gauge(metric.name, metric.about, labels, registry=self._registry)
            case "histogram":
                return Histogram(metric.name, metric.about, labels, registry=self._registry, buckets=metric.buckets)

    def _child(self, name: str, kind: str, given: Mapping[str, str]) -> Any:
        asked = (name, kind, *given.items())
        child = self._children.get(asked)
        if child is None:
            metric = CATALOGUE[name]
            assert metric.kind == kind, f"{name} is a {metric.kind}"
            values = self._labels.bounded(metric, given)
            child = self._metrics[name].labels(*values) if values else self._metrics[name]
            if OTHER not in values:  # what is not counted by its own name must not fill the memory by it
                self._children[asked] = child
        return child

    def item(self, stage: str, outcome: str, reason: str = "", seconds: float = 0.0) -> None:
        self.count(catalogue.ITEMS, stage=stage, outcome=outcome)
        if seconds:
            self.observe(catalogue.ITEM_SECONDS, seconds, stage=stage)
        if outcome == "replayed":
            self.count(catalogue.DEDUP_HITS, stage=stage)
        elif outcome in ("retried", "dead"):
            self.count(catalogue.RETRIED if outcome == "retried" else catalogue.DLQ, stage=stage, reason=reason)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        self._child(name, "gauge", labels).set(value)

    def count(self, name: str, number: float = 1, **labels: str) -> None:
        self._child(name, "counter", labels).inc(number)

    def observe(self, name: str, value: float, **labels: str) -> None:
        self._child(name, "histogram", labels).observe(value)

    @contextmanager
    def span(
        self,
        name: str,
        *,
        trace: Mapping[str, str] = NO_TRACE,
        links: Sequence[Mapping[str, str]] = (),
        **attributes: Attribute,
    ) -> Iterator[Mapping[str, str]]:
        with self._tracing.span(name, trace=trace, links=links, attributes=attributes) as inner:
            yield inner

    def exposition(self) -> tuple[bytes, str]:
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def close(self) -> None:
        self._tracing.close()


def open_telemetry(settings: ProcessSettings) -> ProgramTelemetry:
    """The telemetry that a service's settings, and the OTEL_ variables, ask for."""
    tracing = open_tracing(service=settings.service, instance=settings.process_name, share=settings.traces.share)
    return ServiceTelemetry(tracing)
