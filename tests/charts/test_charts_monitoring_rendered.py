"""What the chart makes of rules, dashboards and scrapes: nothing unless asked, and then whole."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.charts.chart_values import CHART, EXTERNAL, FULL, merged, rendered
from tests.needs import needs_tool

FILES = CHART / "files"
KINDS = ("PodMonitor", "PrometheusRule")


def of_monitoring(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        each
        for each in objects
        if each["kind"] in KINDS or (each["kind"] == "ConfigMap" and "-dashboard-" in each["metadata"]["name"])
    ]


def asked_for(**monitoring: Any) -> list[dict[str, Any]]:
    return of_monitoring(rendered(merged(EXTERNAL, monitoring=monitoring)))


def test_nothing_of_it_is_there_unless_it_is_asked_for() -> None:
    assert asked_for() == []


@pytest.mark.parametrize(
    ("part", "kind", "number"),
    [("podMonitor", "PodMonitor", 7), ("rules", "PrometheusRule", 4), ("dashboards", "ConfigMap", 3)],
)
def test_each_part_comes_alone_with_the_labels_that_its_reader_looks_for(part: str, kind: str, number: int) -> None:
    found = asked_for(**{part: {"enabled": True, "labels": {"release": "prometheus"}}})
    assert [each["kind"] for each in found] == [kind] * number
    assert all(each["metadata"]["labels"]["release"] == "prometheus" for each in found)


def test_rules_are_those_of_the_files_with_links_to_the_given_runbook(tmp_path: Path) -> None:
    found = asked_for(rules={"enabled": True}, runbook="https://wiki/runbook")
    specs = {each["metadata"]["name"]: each["spec"] for each in found}
    for path in sorted((FILES / "alerts").glob("*.yaml")):
        text = path.read_text(encoding="utf-8").replace("docs/runbook.md", "https://wiki/runbook")
        assert specs[f"t-tracemend-{path.stem}"] == yaml.safe_load(text)
        checked = tmp_path / path.name
        checked.write_text(json.dumps(specs[f"t-tracemend-{path.stem}"]), encoding="utf-8")
        command = [needs_tool("promtool"), "check", "rules", checked]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr


def test_dashboards_are_shipped_as_they_are() -> None:
    shipped: dict[str, str] = {}
    for each in asked_for(dashboards={"enabled": True}):
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        shipped |= each["data"]
    for path in (FILES / "dashboards").glob("*.json"):
        assert json.loads(shipped[f"tracemend-{path.name}"]) == json.loads(path.read_text(encoding="utf-8"))


def test_every_process_that_serves_metrics_is_scraped_once_and_nothing_else_is() -> None:
    objects = rendered(FULL)
    monitors = [each["spec"] for each in objects if each["kind"] == "PodMonitor"]
    for deployment in (each for each in objects if each["kind"] == "Deployment"):
        pod = deployment["spec"]["template"]
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", [])}
        found = [m for m in monitors if m["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()]
        assert len(found) == ("http" in ports), deployment["metadata"]["name"]
        assert all(endpoint["port"] in ports for m in found for endpoint in m["podMetricsEndpoints"])
