"""What the chart takes, what it refuses and how it says so; and that programs understand what it tells them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.charts.chart_values import (
    CHART,
    DEV,
    EXTERNAL,
    FULL,
    NEWEST,
    OLDEST,
    SETS,
    containers,
    merged,
    one,
    pods,
    refused,
    rendered,
    template,
)

from tracemend.runtime.program_configuration import load
from tracemend.runtime.program_settings import SERVICES, JobPodSettings

GENERATE = CHART.parent / "generate.py"


def test_values_schema_and_table_are_what_the_model_makes() -> None:
    ended = subprocess.run([sys.executable, GENERATE, "--check"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("kubernetes", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", SETS)
def test_every_set_renders_without_a_warning(values: str, kubernetes: str) -> None:
    ended = template(SETS[values], kubernetes=kubernetes)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("values", SETS)
def test_every_set_renders_the_same_under_helm_4(values: str) -> None:
    ended = template(SETS[values], helm="helm4")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list(yaml.safe_load_all(ended.stdout)) == list(yaml.safe_load_all(template(SETS[values]).stdout))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kafak": {}}, "kafak"),
        ({"kafka": {"bootstrap": "x"}}, "bootstrap"),
        ({"services": {"judge": {"replica": 2}}}, "replica"),
        ({"services": {"judge": {"replicas": -1}}}, "replicas"),
        ({"kafka": {"mode": "internal"}}, "mode"),
        ({"gpu": {"pool": "some"}}, "pool"),
        ({"targets": [{"name": "Not A Name"}]}, "name"),
        ({"targets": [{"nam": "small"}]}, "nam"),
        ({"images": {"gpu": {"digest": "latest"}}}, "digest"),
        ({"services": {"judge": {"minReplicas": 9}}}, "services.judge: minReplicas is above maxReplicas"),
        ({"targets": [{"name": "one"}, {"name": "one"}]}, "targets has 'one' twice"),
        ({"kafka": {"bootstrapServers": ""}}, "set kafka.bootstrapServers"),
        ({"kafka": {"existingSecret": ""}}, "kafka.existingSecret"),
        ({"store": {"endpoint": ""}}, "set store.endpoint"),
        ({"postgresql": {"existingSecret": ""}}, "postgresql.existingSecret"),
        ({"store": {"mode": "dev"}}, "say so by unsafeDev"),
        ({"rpc": {"tlsSecret": ""}}, "tokens would travel in the clear"),
        ({"modelServers": [{"name": "guard", "model": "/nowhere"}]}, "/nowhere lies in none of models"),
        ({"models": [{"name": "m", "path": "/m", "claim": "m", "hydrate": {"enabled": True}}]}, "hydrate needs"),
        ({"jobs": {"nodes": 2}}, "jobs.folderClaim"),
        ({"autoscaling": {"enabled": True}, "services": {"generator": {"maxReplicas": 49}}}, "48 partitions"),
    ],
)
def test_what_is_wrong_is_refused_in_words(change: Mapping[str, Any], words: str) -> None:
    assert words in refused(merged(EXTERNAL, **change))


def test_everything_that_does_not_go_together_is_said_at_once() -> None:
    said = refused({})
    for words in (
        "kafka.bootstrapServers",
        "kafka.existingSecret",
        "store.endpoint",
        "store.existingSecret",
        "postgresql",
    ):
        assert words in said


@pytest.mark.parametrize("values", SETS)
def test_programs_understand_what_they_are_told(values: str, tmp_path: Path) -> None:
    """Each configuration file is loaded as the program does, with the environment of its pod."""
    objects = rendered(SETS[values])
    told = 0
    for name, pod in pods(objects):
        for container in containers(pod):
            environ = {each["name"]: each.get("value", "something") for each in container.get("env", [])}
            secret = tmp_path / "secret"
            secret.write_text("sqlite:x", encoding="utf-8")
            environ |= {key: str(secret) for key in environ if key.endswith("_FILE")}
            if (container.get("args") or [""])[0] == "serve":
                volume = next(each for each in pod["spec"]["volumes"] if each["name"] == "settings")
                content = one(objects, "ConfigMap", volume["configMap"]["name"])["data"]["settings.yaml"]
                file = tmp_path / "settings.yaml"
                file.write_text(content, encoding="utf-8")
                load(SERVICES[container["args"][1]], file=file, environ=environ)
                told += 1
            elif "tracemend.programs.job_pod" in container.get("command", []):
                load(JobPodSettings, file=None, environ=environ)
                told += 1
            ours = {key for key in environ if key.startswith("TRACEMEND_")}
            assert ours <= {
                "TRACEMEND_NAME",
                "TRACEMEND_LEDGER_FILE",
                "TRACEMEND_BUS",
                "TRACEMEND_STORE",
                "TRACEMEND_TO",
                "TRACEMEND_CA_FILE",
                "TRACEMEND_PLAINTEXT",
                "TRACEMEND_TOKEN_FILE",
            }, name
    assert told >= 6


def test_topics_of_every_target_are_made_with_the_copies_that_are_asked_for() -> None:
    args = _setup_args(merged(FULL, kafka={"replication": 5, "minIsr": 3}))
    assert args == ["--target=small", "--target=large", "--replication=5", "--min-isr=3"]
    assert _setup_args(DEV) == ["--target=null", "--replication=1", "--min-isr=1", "--make-bucket"]


def _setup_args(values: Mapping[str, Any]) -> list[str]:
    job = one(rendered(values), "Job", "t-tracemend-setup-1")
    args: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return args


def test_the_run_of_helm_test_is_one_that_the_cluster_takes() -> None:
    from tracemend.embedded.plan import resolve
    from tracemend.embedded.runfile import RunFile

    content = one(rendered(FULL), "ConfigMap", "t-tracemend-test")["data"]["run.yaml"]
    assert resolve(RunFile(**yaml.safe_load(content))).content
    assert yaml.safe_load(content)["target"]["served_as"] == "small"


def test_definitions_are_installed_kept_and_left_out_where_asked() -> None:
    kinds = [each for each in rendered(EXTERNAL) if each["kind"] == "CustomResourceDefinition"]
    assert {each["spec"]["names"]["kind"] for each in kinds} == {"TrainingRun", "EvaluationRun"}
    assert {each["metadata"]["annotations"]["helm.sh/resource-policy"] for each in kinds} == {"keep"}
    without = rendered(merged(EXTERNAL, crds={"install": False}))
    assert not [each for each in without if each["kind"] == "CustomResourceDefinition"]


def test_notes_tell_what_is_risky(tmp_path: Path) -> None:
    """`helm template` leaves the notes out, so here they are made a manifest of a copy of the chart."""
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    notes = (chart / "templates" / "NOTES.txt").read_text(encoding="utf-8")
    (chart / "templates" / "_notes.tpl").write_text('{{- define "notes" }}' + notes + "{{ end }}", encoding="utf-8")
    shown = 'kind: Notes\nnotes: |\n  {{- include "notes" . | nindent 2 }}\n'
    (chart / "templates" / "notes.yaml").write_text(shown, encoding="utf-8")

    def said(values: Mapping[str, Any], *options: str) -> str:
        ended = template(values, chart=chart, options=("--show-only", "templates/notes.yaml", *options))
        assert ended.returncode == 0, ended.stderr
        return str(yaml.safe_load(ended.stdout)["notes"])

    assert "Before you rely on it" not in said(EXTERNAL)
    for words in ("in the clear", "without credentials", "kafka is a dev server", "store is a dev server"):
        assert words in said(DEV)
    scaled = merged(EXTERNAL, autoscaling={"enabled": True})
    assert "install KEDA" in said(scaled)
    assert "install KEDA" not in said(scaled, "--api-versions", "keda.sh/v1alpha1")
    assert "targets is empty" in said(merged(EXTERNAL, targets=[]))


def test_chart_and_distribution_have_one_version() -> None:
    import tomllib

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == project["project"]["version"]
    assert {"kubeVersion", "maintainers", "sources", "annotations"} <= set(chart)


def test_the_chart_tells_its_images_and_resources_to_catalogues() -> None:
    """In the annotations of Artifact Hub, as the values and definitions have them."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    told = {name: yaml.safe_load(text) for name, text in chart["annotations"].items()}
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["images"]
    images = {name: f"{image['repository']}:{chart['appVersion']}" for name, image in values.items()}
    assert {each["name"]: each["image"] for each in told["artifacthub.io/images"]} == images
    defined = {each["metadata"]["name"] for each in rendered(EXTERNAL) if each["kind"] == "CustomResourceDefinition"}
    assert {each["name"] for each in told["artifacthub.io/crds"]} == defined
    assert all(each["description"] for each in told["artifacthub.io/changes"])


def test_names_that_are_too_long_are_cut_so_that_labels_hold_them() -> None:
    for each in rendered(merged(EXTERNAL, fullnameOverride="x" * 80, targets=[{"name": "y" * 40}])):
        assert len(each["metadata"]["name"]) <= 253
        if each["kind"] in ("Service", "Deployment"):
            assert len(each["metadata"]["name"]) <= 63 or each["kind"] == "Deployment"
