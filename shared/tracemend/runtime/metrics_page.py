"""docs/metrics.md, made from the catalogue: `python -m tracemend.runtime.metrics_page > docs/metrics.md`.

A test compares the page with what this makes; dashboards and alert rules use no other names.
"""

from __future__ import annotations

import sys

from tracemend.kit.telemetry import CATALOGUE, Metric
from tracemend.runtime.telemetry import MAX_VALUES, OTHER

_HEAD = f"""# Metrics of the services

Every service answers `/metrics` on `http.port` with these, with Prometheus' own of the process, and where a vLLM engine
runs in it with vLLM's (`vllm:…`). Labels are codes: never text, never ids. A label that has more than {MAX_VALUES}
values, or one that is no code, is counted as `{OTHER}`.
This page is made from the code: `python -m tracemend.runtime.metrics_page > docs/metrics.md`.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(f"{_row(metric)}\n" for metric in CATALOGUE.values())


def _row(metric: Metric) -> str:
    labels = ", ".join(
        f"`{label}` ({', '.join(values)})" if values else f"`{label}`" for label, values in metric.labels.items()
    )
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.about} |"


if __name__ == "__main__":
    sys.stdout.write(page())
