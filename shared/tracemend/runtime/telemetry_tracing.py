"""Traces: W3C context read from and written to whatever carries it, spans exported by OpenTelemetry where asked for.

`telemetry` opens it. Without OTEL_EXPORTER_OTLP_ENDPOINT nothing is recorded, but contexts are still made and handed
on: every log line has a trace id, and a collector that is attached to one service sees where its work came from. A
span's error is told by its type; messages of exceptions quote what they choke on.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from tracemend.kit.errors import SetupError
from tracemend.kit.logs import about
from tracemend.kit.telemetry import NO_TRACE, Attribute
from tracemend.redaction import Text
from tracemend.runtime import telemetry_attributes as names

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_FIELDS = ("traceparent", "tracestate")
_MAX_CHARS = 512
_CLOSE_S = 3.0


class Tracing(Protocol):
    """Who makes spans."""

    def span(
        self,
        name: str,
        *,
        trace: Mapping[str, str],
        links: Sequence[Mapping[str, str]],
        attributes: Mapping[str, Attribute],
    ) -> AbstractContextManager[Mapping[str, str]]:
        """As `kit.telemetry.Telemetry.span`."""
        ...

    def close(self) -> None:
        """Export what is left."""
        ...


def trace_id_of(trace: Mapping[str, str]) -> str:
    """The trace id (32 hex digits) in a W3C context; empty where there is none."""
    parts = trace.get("traceparent", "").split("-")
    is_whole = len(parts) == 4 and len(parts[1]) == 32 and set(parts[1]) <= set("0123456789abcdef")
    return parts[1] if is_whole else ""


# ------------------------------------------------------------------------------------------ without


_current: ContextVar[Mapping[str, str]] = ContextVar("trace", default=NO_TRACE)


class _Passing:
    """Hands contexts on, making them where there are none, and records nothing."""

    @contextmanager
    def span(
        self,
        name: str,
        *,
        trace: Mapping[str, str],
        links: Sequence[Mapping[str, str]],
        attributes: Mapping[str, Attribute],
    ) -> Iterator[Mapping[str, str]]:
        inner = trace if trace_id_of(trace) else _current.get()
        if not inner:
            inner = {"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"}
        token = _current.set(inner)
        try:
            with about(trace_id=trace_id_of(inner)):
                yield inner
        finally:
            _current.reset(token)

    def close(self) -> None:
        return


NO_TRACING: Tracing = _Passing()


# --------------------------------------------------------------------------------------------- with


class OpenTelemetryTracing:
    """Spans through the OpenTelemetry SDK, to `exporter`.

    `share` of the traces is exported, chosen by trace id unless whoever began the trace chose already; spans that ended
    in an error are exported whatever their trace.
    """

    def __init__(self, exporter: SpanExporter, *, resource: Mapping[str, str], share: float) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._exporter = exporter
        self._provider = TracerProvider(
            resource=Resource.create(dict(resource), schema_url=names.SCHEMA_URL),
            sampler=_sampler(share),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(_errors_too(exporter))
        self._tracer = self._provider.get_tracer("tracemend", schema_url=names.SCHEMA_URL)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(
        self,
        name: str,
        *,
        trace: Mapping[str, str],
        links: Sequence[Mapping[str, str]],
        attributes: Mapping[str, Attribute],
    ) -> Iterator[Mapping[str, str]]:
        from opentelemetry import trace as api

        inner: dict[str, str] = {}
        with self._tracer.start_as_current_span(
            name,
            context=self._context(trace) if trace else None,
            links=[api.Link(api.get_current_span(self._context(one)).get_span_context()) for one in links],
            attributes={names.attribute(key): _plain(value) for key, value in attributes.items()},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            self._propagator.inject(inner)
            try:
                with about(trace_id=trace_id_of(inner)):
                    yield MappingProxyType(inner)
            except BaseException as error:
                _fail(span, error)
                raise

    def _context(self, trace: Mapping[str, str]) -> Context:
        from opentelemetry.context import Context

        carrier = {key: trace[key] for key in _FIELDS if key in trace and len(trace[key]) <= _MAX_CHARS}
        return self._propagator.extract(carrier, context=Context())

    def close(self) -> None:
        # The SDK's own limits are not kept: a flush goes on trying for as long as the exporter does.
        flush = threading.Thread(target=self._provider.force_flush, name="flush-spans", daemon=True)
        flush.start()
        flush.join(_CLOSE_S)
        if flush.is_alive():
            self._exporter.shutdown()
        self._provider.shutdown()


def open_tracing(*, service: str, instance: str, share: float, environ: Mapping[str, str] = os.environ) -> Tracing:
    """Tracing as the OTEL_ variables ask for it."""
    if not environ.get(ENDPOINT) or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return NO_TRACING
    resource = {names.SERVICE_NAMESPACE: "tracemend", names.SERVICE_NAME: service}
    if instance:
        resource[names.SERVICE_INSTANCE] = instance
    return OpenTelemetryTracing(_exporter(environ), resource=resource, share=share)


def _exporter(environ: Mapping[str, str]) -> SpanExporter:
    protocol = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    try:
        if protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

            return GrpcExporter()
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        return HttpExporter()
    except ImportError as missing:
        raise SetupError(
            f"{ENDPOINT} is set, and traces by '{protocol}' need {missing.name}: install tracemend[cluster] and set "
            "OTEL_EXPORTER_OTLP_PROTOCOL to grpc, or unset the endpoint"
        ) from None


def _plain(value: Attribute) -> Attribute:
    return value.label() if isinstance(value, Text) else value


def _fail(span: Span, error: BaseException) -> None:
    """Mark `span` as failed; who is told to stop has not failed."""
    from opentelemetry.trace import Status, StatusCode

    if not isinstance(error, asyncio.CancelledError | GeneratorExit):
        span.set_attribute(names.ERROR_TYPE, type(error).__name__)
        span.set_status(Status(StatusCode.ERROR))


def _sampler(share: float) -> Any:
    """Chooses like OpenTelemetry's ratio sampler, but records what it does not choose: it may still fail."""
    from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased

    class RecordingRatio(TraceIdRatioBased):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            chosen = super().should_sample(*args, **kwargs)
            return chosen if chosen.decision is Decision.RECORD_AND_SAMPLE else _recorded(chosen, *args, **kwargs)

    class Recording(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            return SamplingResult(Decision.RECORD_ONLY, _given(args, kwargs))

        def get_description(self) -> str:
            return "recording"

    def _given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return kwargs.get("attributes", args[4] if len(args) > 4 else None)

    def _recorded(chosen: SamplingResult, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY, _given(args, kwargs), chosen.trace_state)

    ratio, recording = RecordingRatio(share), Recording()
    return ParentBased(ratio, remote_parent_not_sampled=recording, local_parent_not_sampled=recording)


def _errors_too(exporter: SpanExporter) -> Any:
    """The SDK's batch processor, which drops what was not chosen, handed failed spans as chosen ones."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    class ErrorsToo(BatchSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            super().on_end(span if span.status.is_ok or span.context.trace_flags.sampled else _chosen(span))

    return ErrorsToo(exporter)


def _chosen(span: ReadableSpan) -> ReadableSpan:
    """`span` as if it had been sampled."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, TraceFlags

    its = span.context
    return ReadableSpan(
        name=span.name,
        context=SpanContext(its.trace_id, its.span_id, its.is_remote, TraceFlags(TraceFlags.SAMPLED), its.trace_state),
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
