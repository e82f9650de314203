"""What is measured is what the catalogue says, with few labels and no text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tracemend.kit import telemetry as catalogue
from tracemend.kit.ports import Completion, ModelRequest
from tracemend.kit.prices import Price, price_of
from tracemend.kit.telemetry import CATALOGUE, ITEM_OUTCOMES, NO_TELEMETRY
from tracemend.records import Finish
from tracemend.redaction import Text
from tracemend.runtime.metrics_page import page
from tracemend.runtime.opening import open_ledger, open_store
from tracemend.runtime.telemetry import MAX_VALUES, OTHER, ServiceTelemetry
from tracemend.runtime.telemetry_ports import measured_ledger, measured_model, traced_store

CANARY = "the quick brown canary"


def scraped(telemetry: ServiceTelemetry) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Sample name to its labels and values."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(telemetry.exposition()[0].decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def one(telemetry: ServiceTelemetry, name: str, **labels: str) -> float:
    (value,) = [number for its, number in scraped(telemetry)[name] if its.items() >= labels.items()]
    return value


def use_all(telemetry: ServiceTelemetry, value: str) -> None:
    """Report every metric of the catalogue once, with `value` for each label."""
    for metric in CATALOGUE.values():
        labels = dict.fromkeys(metric.labels, value)
        {"counter": telemetry.count, "gauge": telemetry.gauge, "histogram": telemetry.observe}[metric.kind](
            metric.name, 1, **labels
        )


def test_every_metric_of_the_catalogue_is_exposed_under_its_name() -> None:
    telemetry = ServiceTelemetry()
    use_all(telemetry, "judge")
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in scraped(telemetry)}
    assert {name for name in CATALOGUE if name not in names} == set()
    assert all(name.startswith("tracemend_") for name in CATALOGUE)
    assert all(name.endswith("_total") == (metric.kind == "counter") for name, metric in CATALOGUE.items())


def test_labels_are_bounded_whatever_is_passed() -> None:
    telemetry = ServiceTelemetry()
    for number in range(MAX_VALUES + 20):
        use_all(telemetry, f"id-{number}")
    series = scraped(telemetry)
    per_metric = {name: len(found) for name, found in series.items() if name.startswith("tracemend_")}
    most = (MAX_VALUES + 1) * (len(catalogue.SECONDS) + 1)
    assert max(per_metric.values()) <= most
    assert one(telemetry, "tracemend_retried_total", stage=OTHER) == 20


@pytest.mark.parametrize("value", [CANARY, Text("word"), "x" * 81, "a\nb", 'quote"', "ключ"])
def test_text_is_no_label(value: str) -> None:
    telemetry = ServiceTelemetry()
    use_all(telemetry, value)
    exposed = telemetry.exposition()[0].decode()
    assert str.__str__(value) not in exposed.replace("HELP", "")
    assert one(telemetry, "tracemend_retried_total", stage=OTHER, reason=OTHER) == 1


def test_what_the_catalogue_lacks_is_a_mistake() -> None:
    telemetry = ServiceTelemetry()
    with pytest.raises(KeyError):
        telemetry.count("tracemend_unheard_of_total")
    with pytest.raises(AssertionError):
        telemetry.gauge(catalogue.ITEMS, 1, stage="judge", outcome="done")
    with pytest.raises(AssertionError):
        telemetry.count(catalogue.ITEMS, stage="judge", prompt="prompt_1")


def test_items_are_counted_by_outcome_and_reason() -> None:
    telemetry = ServiceTelemetry()
    for outcome in ITEM_OUTCOMES:
        telemetry.item("judge", outcome, reason="http_503" if outcome in ("retried", "dead") else "", seconds=0.5)
    assert [one(telemetry, "tracemend_items_total", outcome=outcome) for outcome in ITEM_OUTCOMES] == [1, 1, 1, 1]
    assert one(telemetry, "tracemend_dlq_total", reason="http_503") == 1
    assert one(telemetry, "tracemend_retried_total", reason="http_503") == 1
    assert one(telemetry, "tracemend_dedup_hits_total") == 1
    assert one(telemetry, "tracemend_item_seconds_sum", stage="judge") == 2.0


def test_no_telemetry_takes_everything_and_passes_traces_on() -> None:
    NO_TELEMETRY.item("judge", "done")
    with NO_TELEMETRY.span("x", trace={"traceparent": "t"}) as trace:
        assert trace == {"traceparent": "t"}


async def test_stores_and_ledgers_stay_what_they_are_when_they_are_watched(tmp_path: Path) -> None:
    telemetry = ServiceTelemetry()
    store = traced_store(open_store(f"file:{tmp_path / 'store'}"), telemetry)
    digest = await store.put(b"12345")
    assert await store.get(digest) == b"12345"
    with pytest.raises(KeyError):
        await store.get("0" * 64)
    assert [found async for found in store.digests()] == [digest]
    ledger = measured_ledger(open_ledger(f"sqlite:{tmp_path / 'ledger.db'}"), telemetry)
    assert await ledger.runs() == []
    await ledger.open_run("run", plan="plan")
    assert [found async for found in ledger.work()] == []
    await ledger.aclose()
    assert one(telemetry, "tracemend_ledger_op_seconds_count", op="runs", outcome="ok") == 1
    assert one(telemetry, "tracemend_ledger_op_seconds_count", op="open_run", outcome="ok") == 1


class Engine:
    """An engine that gives what it is told."""

    identity = "engine"
    capabilities = None

    def __init__(self, completion: Completion) -> None:
        self._completion = completion

    async def complete(self, request: ModelRequest) -> Completion:
        return self._completion

    async def aclose(self) -> None:
        return


async def test_an_engine_s_tokens_seconds_and_money_are_counted_once() -> None:
    done = Completion(
        text=Text(CANARY),
        finish=Finish.STOP,
        num_prompt_tokens=100,
        num_cached_tokens=40,
        num_new_tokens=10,
        seconds=36,
    )
    price = Price(per_million_prompt=1e6, per_million_cached=5e5, per_million_new=2e6, per_engine_hour=100)
    telemetry = ServiceTelemetry()
    model = measured_model(Engine(done), telemetry, name="target", price=price)  # type: ignore[arg-type]
    completion = await model.complete(ModelRequest())
    assert completion.money == pytest.approx(60 * 1 + 40 * 0.5 + 10 * 2 + 1)
    kinds = {kind: one(telemetry, "tracemend_tokens_total", kind=kind) for kind in ("prompt", "cached", "new")}
    assert kinds == {"prompt": 60, "cached": 40, "new": 10}
    assert one(telemetry, "tracemend_engine_seconds_total", model="target") == 36
    assert one(telemetry, "tracemend_engine_requests", model="target") == 0


def test_a_default_price_stands_for_models_that_are_not_listed() -> None:
    prices = {"default": Price(per_million_new=1), "target": Price()}
    assert price_of(prices, "teacher") is prices["default"]
    assert price_of(prices, "target") is prices["target"]
    assert price_of({}, "target") is None


def test_the_page_of_metrics_is_up_to_date() -> None:
    """If not: `python -m tracemend.runtime.metrics_page > docs/metrics.md`."""
    assert (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8") == page()
