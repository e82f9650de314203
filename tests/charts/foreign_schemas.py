"""Schemas of other projects' resources that the chart renders, kept beside the tests: what their API servers check.

python -m tests.charts.foreign_schemas [MODULES]

makes them anew from the definitions in Go's module cache (`go env GOMODCACHE`), where `go mod download` of the modules
below puts them. What a definition does not name is an unknown field, which a strict server refuses. Both projects are
under the Apache licence 2.0; each file says what it is made from.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

KEPT = Path(__file__).parent / "schemas"
_KEDA = "github.com/kedacore/keda/v2@v2.21.0/config/crd/bases"
_PROMETHEUS = "github.com/prometheus-operator/prometheus-operator@v0.85.0/example/prometheus-operator-crd"
SOURCES = (
    f"{_KEDA}/keda.sh_scaledobjects.yaml",
    f"{_KEDA}/keda.sh_triggerauthentications.yaml",
    f"{_PROMETHEUS}/monitoring.coreos.com_podmonitors.yaml",
    f"{_PROMETHEUS}/monitoring.coreos.com_prometheusrules.yaml",
)


def file_name(api_version: str, kind: str) -> str:
    return f"{kind}.{api_version.replace('/', '.')}.json"


def _schemas(source: str, modules: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema for each version that the definition serves."""
    spec = yaml.safe_load((modules / source).read_text(encoding="utf-8"))["spec"]
    for version in spec["versions"]:
        told = f"{spec['group']}/{version['name']}"
        schema = closed(version["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}  # every server's own
        yield file_name(told, spec["names"]["kind"]), {"$comment": source, **schema}


def closed(node: Any, *, named: bool = False) -> Any:
    """A definition's schema as JSON Schema: objects take no other keys, and words for readers are left out.

    `named`: `node` maps names of properties to schemas, so that its keys are no keywords.
    """
    if isinstance(node, list):
        return [closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    if named:
        return {key: closed(value) for key, value in node.items()}
    left_out = {"description", "default", "format"}
    made = {
        key: closed(value, named=key == "properties")
        for key, value in node.items()
        if key not in left_out and not key.startswith("x-")
    }
    if "properties" in made and not node.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def main() -> None:
    modules = Path(sys.argv[1]) if sys.argv[1:] else Path.home() / "go" / "pkg" / "mod"
    KEPT.mkdir(exist_ok=True)
    for source in SOURCES:
        for name, schema in _schemas(source, modules):
            text = json.dumps(schema, indent=None, separators=(",", ":"), sort_keys=True)
            (KEPT / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
