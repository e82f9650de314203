"""Grafana dashboards from the table beside this: `python charts/dashboards.py [--check]`.

Writes charts/tracemend/files/dashboards/*.json, which the chart ships as ConfigMaps; with --check it writes nothing and
exits with 1 where they are not current. Our metrics are those of docs/metrics.md; those of others stand with their
source in tests/charts/foreign_metrics.py.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).with_suffix(".yaml")
FOLDER = Path(__file__).parent / "tracemend" / "files" / "dashboards"

_METRIC = re.compile(r"\b(?:tracemend_|vllm:|kube_|keda_|DCGM_)\w+(\{)?")
_P95 = re.compile(r"\$p95\((\S+) by (\w+)\)")
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_NUM_COLUMNS, _WIDTH, _HEIGHT = 3, 8, 8
_BAR_OPTIONS = {"orientation": "horizontal", "displayMode": "basic", "reduceOptions": {"calcs": ["lastNotNull"]}}
_VERSIONS = "sum by (version) (tracemend_build_info) unless sum by (version) (tracemend_build_info offset 5m)"


def written_out(expression: str, words: Mapping[str, str]) -> str:
    """`expression` over the metrics of the chosen namespace alone, without words of the table's own."""
    for word, meaning in words.items():
        expression = expression.replace(word, meaning)
    expression = _P95.sub(r"histogram_quantile(0.95, sum by (le, \2) (rate(\1_bucket[$r])))", expression)
    matcher = 'namespace="$namespace"'
    kept = _METRIC.sub(lambda m: f"{m[0]}{matcher}," if m[1] else f"{m[0]}{{{matcher}}}", expression)
    return kept.replace("[$r]", "[$__rate_interval]")


def panel_of(given: Sequence[Any], words: Mapping[str, str]) -> dict[str, Any]:
    """One panel, without its place."""
    title, unit, lines, *rest = given
    more: Mapping[str, str] = rest[0] if rest else {}
    kind = more.get("kind", "timeseries")
    instant = {"instant": True, "range": False} if kind != "timeseries" else {}
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": _SOURCE,
            "expr": written_out(str(expression), words),
            "legendFormat": legend,
            **instant,
        }
        for number, (legend, expression) in enumerate(lines.items())
    ]
    return {
        "type": kind,
        "title": title,
        **({"description": more["about"]} if "about" in more else {}),
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        **({"options": _BAR_OPTIONS} if kind == "bargauge" else {}),
    }


def panels_of(rows: Mapping[str, Sequence[Any]], words: Mapping[str, str]) -> list[dict[str, Any]]:
    """The panels of a dashboard with their places: three beside each other, a heading over each row."""
    panels: list[dict[str, Any]] = []
    y = 0
    for heading, its in rows.items():
        panels.append({"type": "row", "title": heading, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": []})
        for number, given in enumerate(its):
            line, column = divmod(number, _NUM_COLUMNS)
            place = {"x": column * _WIDTH, "y": y + 1 + line * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append({"gridPos": place, **panel_of(given, words)})
        y += 1 + -(-len(its) // _NUM_COLUMNS) * _HEIGHT
    return [{"id": number, **panel} for number, panel in enumerate(panels, 1)]


def dashboard(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """The dashboard as Grafana provisions it."""
    words: Mapping[str, str] = table["words"]
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    namespace = {
        "name": "namespace",
        "label": "Namespace",
        "type": "query",
        "datasource": _SOURCE,
        "query": "label_values(tracemend_build_info, namespace)",
        "refresh": 2,
    }
    versions = {
        "name": "New versions",
        "datasource": _SOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": written_out(_VERSIONS, words),
        "titleFormat": "{{version}}",
        "step": "60s",
    }
    siblings = {"type": "dashboards", "title": "tracemend", "tags": ["tracemend"], "asDropdown": True}
    return {
        "uid": f"tracemend-{name}",
        "title": f"tracemend: {name}",
        "tags": ["tracemend"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [{**siblings, "keepTime": True, "includeVars": True}],
        "annotations": {"list": [versions]},
        "templating": {"list": [source, namespace]},
        "panels": panels_of(table["dashboards"][name], words),
    }


def main() -> int:
    """Write the files, or compare with them."""
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    stale = []
    for name in table["dashboards"]:
        path, content = FOLDER / f"{name}.json", json.dumps(dashboard(name, table), indent=1) + "\n"
        if "--check" not in sys.argv:
            path.write_text(content, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != content:
            stale.append(path.name)
    if stale:
        print(f"not current: {', '.join(stale)}; run python charts/dashboards.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
