"""A real API server takes everything that the chart renders: no unknown field, and every pod restricted."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator

import pytest
import yaml
from tests.charts.chart_values import SETS, Manifest, rendered
from tests.needs import needs_kubernetes, needs_tool

FOREIGN = ("keda.sh/", "kafka.strimzi.io/", "monitoring.coreos.com/")
"""Kinds that this server does not know: their operators are not installed."""

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    """`kubectl` in a namespace of the test's own, where pods must be restricted."""
    needs_kubernetes()
    namespace = f"chart-{secrets.token_hex(4)}"

    def ask(*words: str, told: str = "") -> subprocess.CompletedProcess[str]:
        command = [needs_tool("kubectl"), "--namespace", namespace, *words]
        return subprocess.run(command, input=told, capture_output=True, text=True, check=False, timeout=120)

    label = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": label}}
    assert ask("create", "--filename", "-", told=yaml.safe_dump(made)).returncode == 0
    yield ask
    ask("delete", "namespace", namespace, "--wait=false")


def own(values: str) -> list[Manifest]:
    return [each for each in rendered(SETS[values]) if not each["apiVersion"].startswith(FOREIGN)]


@pytest.mark.parametrize("values", SETS)
def test_the_server_takes_the_release(values: str, kubectl: Kubectl) -> None:
    objects = _here(own(values))
    accounts = [each for each in objects if each["kind"] == "ServiceAccount"]  # pods of accounts unknown are refused
    assert kubectl("apply", "--filename", "-", told=yaml.safe_dump_all(accounts)).returncode == 0
    told = yaml.safe_dump_all(objects)
    ended = kubectl("apply", "--dry-run=server", "--validate=strict", "--filename", "-", told=told)
    assert ended.returncode == 0, ended.stderr
    assert "would violate PodSecurity" not in ended.stderr


def test_the_server_finds_a_field_that_does_not_exist(kubectl: Kubectl) -> None:
    (first, *_) = (each for each in _here(own("external")) if each["kind"] == "Deployment")
    first["spec"]["template"]["spec"]["containers"][0]["readOnlyRoot"] = True
    ended = kubectl("apply", "--dry-run=server", "--validate=strict", "--filename", "-", told=yaml.safe_dump(first))
    assert "unknown field" in ended.stderr


def _here(objects: list[Manifest]) -> list[Manifest]:
    """In the namespace of the test; bindings name the one that the release is rendered for."""
    for each in objects:
        each["metadata"].pop("namespace", None)
    return objects
