"""A measured stage works as the bare one, and tells what it does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from tests import builders

from tracemend.kit.errors import Retry
from tracemend.kit.logs import log_to_stderr
from tracemend.kit.ports import Context, Message
from tracemend.kit.pump import Pump
from tracemend.kit.results import Results
from tracemend.kit.stage import Produced
from tracemend.records import Outcome, OutcomeState, Unit, Value
from tracemend.runtime.opening import open_bus, open_ledger, open_store
from tracemend.runtime.telemetry import ServiceTelemetry
from tracemend.runtime.telemetry_stage import measured_stage
from tracemend.runtime.telemetry_tracing import OpenTelemetryTracing, trace_id_of
from tracemend.topics import ALL, GROUPS, OUTCOMES, TRAJECTORIES, VERDICTS
from tracemend.wire import WireCodec

TRACE = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
CONTEXT = Context(run="run_1")


class Stage:
    """Judges a trajectory as it is told to."""

    name = "judge"
    inputs = (TRAJECTORIES,)

    def __init__(self, value: Value = Value.SAFE, error: Exception | None = None) -> None:
        self._value = value
        self._error = error

    async def prepare(self, messages: Sequence[Message]) -> None:
        return

    def key(self, message: Message) -> str:
        return f"judge_{message.record.id}"

    async def work(self, message: Message) -> Produced:
        structlog.get_logger("judge").warning("looked")
        if self._error is not None:
            raise self._error
        return Produced(messages=(Message(topic=VERDICTS, record=self._verdict(), context=message.context),))

    async def follow(self, messages: Sequence[Message]) -> Sequence[Message]:
        return [Message(topic=GROUPS, record=builders.group([Value.SAFE]), context=messages[0].context)]

    def dead(self, message: Message, reason: str) -> Sequence[Message]:
        return (Message(topic=VERDICTS, record=self._verdict(), context=message.context),)

    def _verdict(self):  # type: ignore[no-untyped-def]  # builders say what
        return builders.verdict(self._value)


class Probe:
    """Telemetry to memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._tracing = OpenTelemetryTracing(self._exporter, resource={}, share=1.0)
        self.telemetry = ServiceTelemetry(self._tracing)

    def value(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families(self.telemetry.exposition()[0].decode())
        samples = (s for family in families for s in family.samples if s.name == name)
        return sum(s.value for s in samples if s.labels.items() >= labels.items())

    def spans(self) -> dict[str, dict[str, object]]:
        self._tracing._provider.force_flush()
        return {span.name: dict(span.attributes or {}) for span in self._exporter.get_finished_spans()}


@pytest.fixture
def probe() -> Iterator[Probe]:
    made = Probe()
    yield made
    made.telemetry.close()
    structlog.reset_defaults()


def message() -> Message:
    return Message(topic=TRAJECTORIES, record=builders.trajectory(), context=CONTEXT, trace=TRACE)


async def test_verdicts_are_counted_by_what_they_say(probe: Probe) -> None:
    stage = measured_stage(Stage(Value.UNSAFE), probe.telemetry)
    await stage.work(message())
    stage.dead(message(), "bug_ValueError")
    with pytest.raises(Retry):
        await measured_stage(Stage(error=Retry("http_503")), probe.telemetry).work(message())
    assert probe.value("tracemend_verdicts_total", value="unsafe") == 2


async def test_replies_that_did_not_parse_and_parts_that_differ_are_counted(probe: Probe) -> None:
    class Judge(Stage):
        def _verdict(self):  # type: ignore[no-untyped-def]
            apart = builders.verdict(Value.SAFE)
            reasoning = replace(apart.reasoning, value=Value.UNSAFE)
            whole = replace(apart.whole, value=Value.UNKNOWN, labels=("unparsed",), judge="rubric:0123abcd")
            return replace(apart, reasoning=reasoning, whole=whole)

    await measured_stage(Judge(), probe.telemetry).work(message())
    assert probe.value("tracemend_parse_failures_total", judge="rubric") == 1
    assert probe.value("tracemend_disagreements_total", axis="harm") == 1


async def test_a_pump_s_traces_go_on_through_a_measured_stage(probe: Probe, tmp_path: Path) -> None:
    """From the message that came in to the message that goes out, and to the lines logged on the way."""
    bus, ledger = open_bus("memory:"), open_ledger(f"sqlite:{tmp_path / 'ledger.db'}")
    results = Results(store=open_store(f"file:{tmp_path}"), ledger=ledger, codec=WireCodec(), topics=ALL)
    await ledger.open_run("run_1", plan="plan")
    stage, telemetry = measured_stage(Stage(), probe.telemetry), probe.telemetry
    pump = Pump(stage, bus=bus, results=results, ledger=ledger, worker="w", telemetry=telemetry)
    task = asyncio.create_task(pump.run())
    verdicts = bus.subscribe([VERDICTS], group="test")
    await bus.publish([message()])
    delivery = await asyncio.wait_for(anext(aiter(verdicts)), 10)
    assert trace_id_of(delivery.message.trace) == "a" * 32
    assert delivery.message.trace != TRACE  # it is a child's
    await delivery.ack()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert probe.value("tracemend_items_total", outcome="done", stage="judge") == 1
    assert "process judge" in probe.spans()
    await ledger.aclose()


async def test_lines_that_are_logged_inside_know_what_they_belong_to(
    probe: Probe, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_stderr(as_json=True)
    with probe.telemetry.span("process judge", trace=TRACE):
        await measured_stage(Stage(), probe.telemetry).work(message())
    told = json.loads(capsys.readouterr().err)
    assert (told["run"], told["stage"], told["trace_id"]) == ("run_1", "judge", "a" * 32)
    assert told["key"].startswith("judge_")


async def test_outcomes_are_counted_by_how_they_end(probe: Probe) -> None:
    class Corrector(Stage):
        async def follow(self, messages: Sequence[Message]) -> Sequence[Message]:
            unit = Unit(arm="rewrite", prompt="prompt_1")
            mended = Outcome(id="o1", unit=unit, state=OutcomeState.CORRECTED, final=builders.verdict(Value.SAFE))
            failed = Outcome(id="o2", unit=unit, state=OutcomeState.GAVE_UP, reason="still_unsafe")
            return [Message(topic=OUTCOMES, record=one, context=CONTEXT) for one in (mended, failed)]

    await measured_stage(Corrector(), probe.telemetry).follow([message()])
    assert probe.value("tracemend_outcomes_total", state="corrected") == 1
    assert probe.value("tracemend_corrections_total", outcome="accepted") == 1
    assert probe.value("tracemend_correction_rejects_total", reason="still_unsafe") == 1
    assert probe.value("tracemend_correction_rounds_count") == 1
