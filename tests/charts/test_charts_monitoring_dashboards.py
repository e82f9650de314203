"""The dashboards are current, parse, show what operators ask for, and use no metric that nobody exposes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.charts.foreign_metrics import FOREIGN
from tests.needs import needs_tool

from tracemend.kit.telemetry import CATALOGUE
from tracemend.runtime.telemetry import ServiceTelemetry

ROOT = Path(__file__).parents[2]
FILES = ROOT / "charts" / "tracemend" / "files"
DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))
_NAME = re.compile(r"\b(?:tracemend_|vllm:|kube_|kubelet_|keda_|DCGM_)\w+")


def dashboards() -> Iterator[dict[str, Any]]:
    for path in DASHBOARDS:
        yield json.loads(path.read_text(encoding="utf-8"))


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for dashboard in dashboards():
        for panel in dashboard["panels"]:
            yield f"{dashboard['title']}: {panel['title']}", panel


def expressions() -> dict[str, str]:
    """What is asked of Prometheus, by who asks: panels and alert rules."""
    asked = {
        f"{name} {target['refId']}": target["expr"] for name, panel in panels() for target in panel.get("targets", [])
    }
    for dashboard in dashboards():
        asked[f"{dashboard['title']}: annotations"] = dashboard["annotations"]["list"][0]["expr"]
    for path in (FILES / "alerts").glob("*.yaml"):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            asked |= {rule["alert"]: rule["expr"] for rule in group["rules"]}
    return asked


def exposed() -> set[str]:
    """The names in a scrape of a process that has used the whole catalogue."""
    telemetry = ServiceTelemetry()
    for metric in CATALOGUE.values():
        use = {"counter": telemetry.count, "gauge": telemetry.gauge, "histogram": telemetry.observe}[metric.kind]
        use(metric.name, 1, **{label: (values or ("x",))[0] for label, values in metric.labels.items()})
    families = text_string_to_metric_families(telemetry.exposition()[0].decode())
    return {sample.name for family in families for sample in family.samples}


def test_the_files_are_made_from_the_table() -> None:
    command = [sys.executable, str(ROOT / "charts" / "dashboards.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_every_name_in_panels_and_rules_is_one_that_is_exposed() -> None:
    foreign = set().union(*FOREIGN.values())
    foreign |= {f"{name}_bucket" for name in foreign if name.endswith("_seconds")}
    known = exposed() | foreign
    unknown = {who: names for who, expr in expressions().items() if (names := set(_NAME.findall(expr)) - known)}
    assert unknown == {}
    used = {name for expr in expressions().values() for name in _NAME.findall(expr)}
    assert {name for name in foreign if not name.endswith("_bucket")} - {
        u.removesuffix("_bucket") for u in used
    } == set()


def test_labels_that_are_asked_for_are_those_of_the_metric() -> None:
    """`{label="…"}` of our metrics; `namespace` and `pod` come with the scrape."""
    for who, expression in expressions().items():
        for name, matchers in re.findall(r"\b(tracemend_\w+)\{([^}]*)\}", expression):
            metric = CATALOGUE.get(name) or CATALOGUE[re.sub(r"_(bucket|sum|count)$", "", name)]
            for label, value in re.findall(r'(\w+)[=!~]+"([^"]*)"', matchers):
                assert label in {*metric.labels, "namespace", "pod", "le"}, f"{who}: {label} of {name}"
                known = metric.labels.get(label, ())
                assert not known or set(value.split("|")) <= set(known), f"{who}: {value} of {name}"


def test_labels_that_are_summed_by_are_those_of_a_metric_or_of_its_scrape() -> None:
    for who, expression in expressions().items():
        used = [re.sub(r"_(bucket|count|sum)$", "", name) for name in _NAME.findall(expression)]
        if any(name not in CATALOGUE for name in used):
            continue  # of others
        known = {label for name in used for label in CATALOGUE[name].labels} | {"namespace", "pod", "le"}
        known |= set(re.findall(r'label_replace\(.*?, "(\w+)", "\$1"', expression, re.DOTALL))
        asked = {label for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in labels.split(", ")}
        assert asked - {""} <= known, who


def test_prometheus_reads_every_expression(tmp_path: Path) -> None:
    rules = [
        {"record": "asked:by:panel", "expr": re.sub(r"\$__(rate_interval|range)", "5m", expr), "labels": {"n": str(n)}}
        for n, expr in enumerate(expressions().values())
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    command = [needs_tool("promtool"), "check", "rules", path]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_it_loads_as_it_is(path: Path) -> None:
    """No input to fill in, no panel of another's data source, none over another one."""
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    assert "__inputs" not in dashboard
    assert "id" not in dashboard
    assert {one["name"] for one in dashboard["templating"]["list"]} == {"datasource", "namespace"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${datasource}"
            for name in re.findall(r"\b(?:tracemend_|vllm:|kube_|keda_|DCGM_)\w+.{0,11}", target["expr"]):
                assert "{namespace=" in name, f"{panel['title']}: {name}"


def test_what_operators_ask_for_has_a_panel() -> None:
    titles = " / ".join(name for name, _ in panels())
    for wanted in (
        "Funnel", "Oldest item per stage", "Time left", "Desired and ready replicas", "Commit gap", "Dead letters",
        "Requests in the engine", "KV cache", "Preemptions", "Verdict mix", "Drift", "Acceptance",
        "Cost per accepted row", "Training: step", "Age of the last checkpoint", "GPU in use",
    ):  # fmt: skip
        assert wanted in titles, wanted
