"""Resources of KEDA and Prometheus' operator are what these projects' definitions say: no unknown field, no wrong type.

A server that knows them would check the same; the definitions are kept (`foreign_schemas`), so no cluster is needed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator

import jsonschema
import pytest
from tests.charts.chart_values import FULL, SETS, STRIMZI, Manifest, rendered
from tests.charts.foreign_schemas import KEPT, file_name

CHECKED = ("keda.sh/", "monitoring.coreos.com/")


def foreign(objects: list[Manifest]) -> list[Manifest]:
    return [each for each in objects if each["apiVersion"].startswith(CHECKED)]


def faults(each: Manifest) -> Iterator[str]:
    schema = json.loads((KEPT / file_name(each["apiVersion"], each["kind"])).read_text(encoding="utf-8"))
    for fault in jsonschema.Draft202012Validator(schema).iter_errors(each):
        yield f"{each['kind']} {each['metadata']['name']}: {fault.json_path}: {fault.message}"


@pytest.mark.parametrize("values", SETS)
def test_every_object_is_what_its_definition_says(values: str) -> None:
    assert not [fault for each in foreign(rendered(SETS[values])) for fault in faults(each)]


def test_every_kind_that_is_rendered_anywhere_has_a_definition_and_the_other_way_round() -> None:
    kinds = {
        file_name(each["apiVersion"], each["kind"]) for values in (FULL, STRIMZI) for each in foreign(rendered(values))
    }
    assert kinds == {file.name for file in KEPT.glob("*.json")}


@pytest.mark.parametrize("kind", ["ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule"])
def test_a_field_that_does_not_exist_and_a_wrong_type_are_found(kind: str) -> None:
    whole = next(each for each in foreign(rendered(FULL)) if each["kind"] == kind)
    unknown, wrong = copy.deepcopy(whole), copy.deepcopy(whole)
    unknown["spec"]["nowhere"] = 1
    wrong["spec"] = [whole["spec"]]
    assert any("nowhere" in fault for fault in faults(unknown))
    assert any("$.spec" in fault for fault in faults(wrong))
