"""Traces go through every hop as W3C context; what is exported has codes and numbers alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tracemend.kit.errors import Retry
from tracemend.redaction import Text
from tracemend.runtime.telemetry import ServiceTelemetry
from tracemend.runtime.telemetry_tracing import OpenTelemetryTracing, open_tracing, trace_id_of

CANARY = "the quick brown canary"
PARENT = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}


class Traced:
    """Telemetry that exports to memory."""

    def __init__(self, share: float) -> None:
        self._exporter = InMemorySpanExporter()
        self._tracing = OpenTelemetryTracing(self._exporter, resource={"service.name": "judge"}, share=share)
        self.telemetry = ServiceTelemetry(self._tracing)

    def spans(self) -> dict[str, Any]:
        self._tracing._provider.force_flush()
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def close(self) -> None:
        self.telemetry.close()


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced(1.0)
    yield made
    made.close()


def test_a_span_is_the_child_of_the_trace_that_came_in(traced: Traced) -> None:
    with traced.telemetry.span("process", trace=PARENT, stage="judge") as inner:
        assert trace_id_of(inner) == "a" * 32
        assert inner["tracestate"] == "vendor=1"
        with traced.telemetry.span("store put"):
            pass
    spans = traced.spans()
    assert spans["process"].parent.span_id == int("b" * 16, 16)
    assert spans["store put"].parent.span_id == spans["process"].context.span_id
    assert spans["process"].attributes == {"tracemend.stage": "judge"}


def test_what_is_sent_from_inside_continues_the_trace(traced: Traced) -> None:
    with traced.telemetry.span("publish") as sent:
        pass
    with traced.telemetry.span("process", trace=sent):
        pass
    spans = traced.spans()
    assert spans["process"].context.trace_id == spans["publish"].context.trace_id
    assert spans["process"].parent.span_id == spans["publish"].context.span_id


def test_a_batch_links_to_all_that_it_came_from(traced: Traced) -> None:
    with traced.telemetry.span("settle", links=[PARENT, PARENT]):
        pass
    (span,) = traced.spans().values()
    assert [f"{link.context.trace_id:x}" for link in span.links] == ["a" * 32] * 2


def test_an_error_is_told_by_its_type(traced: Traced) -> None:
    with pytest.raises(Retry), traced.telemetry.span("process", note=Text(CANARY)):
        raise Retry(CANARY)
    (span,) = traced.spans().values()
    assert span.attributes["error.type"] == "Retry"
    assert span.attributes["tracemend.note"].startswith("<text ")
    assert CANARY not in span.to_json()


def test_who_is_told_to_stop_has_not_failed(traced: Traced) -> None:
    with pytest.raises(asyncio.CancelledError), traced.telemetry.span("process"):
        raise asyncio.CancelledError
    (span,) = traced.spans().values()
    assert span.status.is_unset


def test_traces_are_chosen_by_their_id_and_errors_are_exported_always() -> None:
    few = Traced(0.0)
    unchosen = {"traceparent": f"00-{'c' * 32}-{'d' * 16}-00"}
    with few.telemetry.span("quiet"), few.telemetry.span("inside"):
        pass
    with pytest.raises(ValueError, match="x"), few.telemetry.span("broken", trace=unchosen):
        raise ValueError("x")
    with few.telemetry.span("chosen by who began it", trace=PARENT):
        pass
    assert set(few.spans()) == {"broken", "chosen by who began it"}
    few.close()


@pytest.mark.parametrize("hostile", ["", "00-zz-1-01", f"00-{'0' * 32}-{'0' * 16}-01", "x" * 10_000, CANARY])
def test_a_context_that_is_none_begins_a_trace(traced: Traced, hostile: str) -> None:
    for telemetry in (traced.telemetry, ServiceTelemetry(open_tracing(service="x", instance="", share=1, environ={}))):
        with telemetry.span("process", trace={"traceparent": hostile, "tracestate": hostile}) as inner:
            assert len(trace_id_of(inner)) == 32
            assert CANARY not in str(inner)


def test_without_an_exporter_contexts_are_handed_on() -> None:
    telemetry = ServiceTelemetry(open_tracing(service="judge", instance="", share=1, environ={}))
    with telemetry.span("outer", trace=PARENT) as outer:
        assert outer == PARENT
        with telemetry.span("inner") as inner:
            assert inner == PARENT
    with telemetry.span("another") as another:
        assert trace_id_of(another) not in ("", "a" * 32)
