"""The files around the chart: versions are exact, scripts say what is wrong, and a real API server takes the manifests
and does what they promise."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.operator.sites import Site, open_site
from tests.needs import needs_tool

from tracemend.kit.errors import SetupError
from tracemend.trainer.operator.pool import POOL_LABEL

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
PAGE = ROOT / "docs" / "install.md"
INSTALL = K8S / "third-party" / "install"
ADMISSION = K8S / "cluster" / "admission.yaml"
PLURALS = {
    "Namespace": "/api/v1/namespaces",
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "LimitRange": "/api/v1/namespaces/{}/limitranges",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
    "TrainingRun": "/apis/tracemend.dev/v1alpha1/namespaces/{}/trainingruns",
    "EvaluationRun": "/apis/tracemend.dev/v1alpha1/namespaces/{}/evaluationruns",
}
KUEUE = {"ResourceFlavor", "ClusterQueue", "LocalQueue"}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as opened:
        yield opened


def documents(*folders: str) -> Iterator[tuple[str, Any]]:
    for folder in folders:
        for path in sorted((K8S / folder).glob("*.yaml")):
            for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
                yield path.name, document


def pins() -> list[list[str]]:
    text = (K8S / "third-party" / "pins.tsv").read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if not line.startswith("#")]


# ------------------------------------------------------------------------------------------- third parties


def test_each_third_party_has_one_exact_version_an_address_and_a_reason() -> None:
    assert [row[0] for row in pins()] == ["cert-manager", "keda", "strimzi", "kueue", "nvidia-device-plugin"]
    for name, version, chart, namespace, needed in pins():
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", version), f"{name}: {version} is a range or a moving name"
        assert re.fullmatch(r"oci://\S+|https://\S+ \S+", chart), name
        assert namespace, name
        assert needed, name


def run(script: Path, *arguments: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(script), *arguments], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )


def test_the_install_script_refuses_what_it_does_not_know_before_it_does_anything() -> None:
    for arguments, words in {
        (): "usage:",
        ("keda", "nope"): "nothing here is called 'nope'",
        ("--pull",): "usage:",
    }.items():
        ended = run(INSTALL, *arguments)
        assert ended.returncode == 2
        assert words in ended.stderr
    assert {line.split()[0] for line in run(INSTALL, "--list").stdout.splitlines()} == {row[0] for row in pins()}


def test_the_install_script_hands_helm_each_pinned_version_and_changes_nothing_where_the_trial_fails(
    tmp_path: Path,
) -> None:
    """With a helm and a kubectl that only write down what they are asked for."""
    asked = tmp_path / "asked"
    tools = {"kubectl": "exit 0", "helm": f'echo "$*" >> {asked}; case "$*" in *strimzi*--dry-run*) exit 1;; esac'}
    for name, body in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    ended = run(INSTALL, "keda", "kueue", path=path)
    assert ended.returncode == 0, ended.stderr
    lines = asked.read_text(encoding="utf-8").splitlines()
    assert [("--dry-run=server" in line, "--wait" in line) for line in lines] == [(True, False), (False, True)] * 2
    for name, version, *_ in pins():
        of_it = [line for line in lines if f"--install {name} " in line]
        assert all(f"--version {version} " in line for line in of_it)
    asked.unlink()
    refused = run(INSTALL, "strimzi", path=path)
    assert refused.returncode == 2
    assert "cannot be installed here" in refused.stderr
    assert len(asked.read_text(encoding="utf-8").splitlines()) == 1
    pulled = run(INSTALL, "--pull", str(tmp_path / "charts"), "--all", path=path)
    assert pulled.returncode == 0
    assert run(INSTALL, "--from", str(tmp_path / "charts"), "keda", path=path).returncode == 2, "it was not fetched"


def test_the_kind_script_says_which_tool_is_missing(tmp_path: Path) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "docker").chmod(0o755)
    ended = run(K8S / "kind" / "up", path=f"{tmp_path}:/usr/bin:/bin")
    assert ended.returncode == 2
    assert "kind is missing" in ended.stderr


def test_every_file_and_target_that_the_page_tells_its_reader_to_use_is_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    files = re.findall(r"\b((?:k8s|charts|docker|examples)/[\w./-]*\w)", text)
    assert [name for name in files if not (ROOT / name).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"^make ([a-z-]+)", text, re.M)) <= targets
    named = re.findall(r"third-party/install (?:--pull \S+ )?([a-z][a-z -]+)$", text, re.M)
    assert {name for line in named for name in line.split()} <= {row[0] for row in pins()}
    assert len(named) == 2


# ------------------------------------------------------------------------------------------- manifests


def test_no_manifest_has_a_moving_image_and_every_kind_is_known() -> None:
    for name, document in documents("cluster", "examples"):
        assert document["kind"] in {*PLURALS, *KUEUE}, name
        assert ":latest" not in yaml.safe_dump(document).replace("endsWith(':latest')", ""), name


def own_values(folder: Path) -> Path:
    """The values that docs/install.md has its reader write on top of the overlay for GPU clusters."""
    (written,) = re.findall(r"^cat >my-values.yaml <<END\n(.*?)^END$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    path = folder / "my-values.yaml"
    path.write_text(written, encoding="utf-8")
    return path


@pytest.mark.parametrize("overlay", sorted(path.stem for path in (K8S / "overlays").glob("*.yaml")))
def test_the_chart_renders_with_each_overlay(overlay: str, tmp_path: Path) -> None:
    values = [K8S / "overlays" / f"{overlay}.yaml", *([own_values(tmp_path)] if overlay == "gpu" else [])]
    made = subprocess.run(
        [needs_tool("helm"), "template", "tracemend", ROOT / "charts" / "tracemend", "--kube-version", "1.36.0"]
        + [part for path in values for part in ("--values", path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    rendered = [document for document in yaml.safe_load_all(made.stdout) if document]
    kinds = [document["kind"] for document in rendered]
    assert kinds.count("Deployment") == 7, "six services and the operator"
    members = {(each["kind"], each["metadata"]["name"]) for each in rendered if POOL_LABEL in labels_of(each)}
    assert {kind for kind, _ in members} == ({"ScaledObject"} if overlay == "gpu" else set())
    classes = {each["metadata"]["name"] for name, each in documents("cluster") if name == "priorities.yaml"}
    assert set(re.findall(r"priorityClassName: (\S+)", made.stdout)) <= classes


def labels_of(document: dict[str, Any]) -> dict[str, str]:
    return dict(document["metadata"].get("labels") or {})


async def test_the_api_server_takes_every_manifest(site: Site) -> None:
    """Kueue's objects apart: their kinds come with Kueue."""
    for name, document in documents("cluster", "examples"):
        if document["kind"] in KUEUE:
            continue
        path = PLURALS[document["kind"]].format(site.namespace)
        strict = {"dryRun": "All", "fieldValidation": "Strict"}
        try:
            made = await site.api.call("POST", path, body=document, query=strict)
        except SetupError as error:
            raise AssertionError(f"{name}: {error}") from error
        assert made is not None, name


# ------------------------------------------------------------------------------------------- admission


@pytest.fixture
async def guarded(site: Site) -> AsyncIterator[Site]:
    """A namespace for which the sample policy is in force, under names of its own."""
    mark = f"t{secrets.token_hex(4)}"
    text = ADMISSION.read_text(encoding="utf-8").replace("tracemend-pods", mark).replace(": enforced", f": {mark}")
    made = list(yaml.safe_load_all(text))
    labels = {"tracemend.dev/admission": mark, "pod-security.kubernetes.io/enforce": "restricted"}
    await site.api.call("PATCH", f"/api/v1/namespaces/{site.namespace}", body={"metadata": {"labels": labels}})
    for document in made:
        await site.api.call("POST", PLURALS[document["kind"]], body=document)
    try:
        for _ in range(300):
            if "tag other than latest" in await refusal(site, pod("x:latest")):
                break
            await asyncio.sleep(0.1)
        yield site
    finally:
        for document in reversed(made):
            await site.api.call("DELETE", f"{PLURALS[document['kind']]}/{document['metadata']['name']}")


def pod(image: str, *, gpus: int = 0, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """One that passes the restricted profile."""
    inside = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    whole = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    limits = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
    container = {"name": "a", "image": image, "securityContext": inside, "resources": limits}
    about = {"generateName": "a-", "labels": labels or {}}
    return {"metadata": about, "spec": {"securityContext": whole, "containers": [container], **spec}}


async def refusal(site: Site, body: dict[str, Any]) -> str:
    """Why a pod is refused; nothing where it is taken. None is kept."""
    path = f"/api/v1/namespaces/{site.namespace}/pods"
    try:
        await site.api.call("POST", path, body=body, query={"dryRun": "All"})
    except SetupError as error:
        return str(error)
    return ""


DIGEST = f"example.org/a@sha256:{'0' * 64}"
OURS = {"app.kubernetes.io/name": "tracemend"}
FIRST = {"securityContext": pod("x")["spec"]["containers"][0]["securityContext"]}


async def test_the_sample_policy_refuses_what_it_names_and_nothing_else(guarded: Site) -> None:
    high = {"priorityClassName": f"tracemend-{guarded.namespace}"}
    cases = [
        (pod("example.org/a:1.2"), ""),
        (pod("localhost:5001/a:1.2"), ""),
        (pod(DIGEST), ""),
        (pod("example.org/a:latest"), "tag other than latest"),
        (pod("localhost:5001/a"), "tag other than latest"),
        (pod("a:1", initContainers=[{"name": "b", "image": "b", **FIRST}]), "tag other than latest"),
        (pod("a:1", gpus=1, labels={}), "only tracemend's own pods"),
        (pod("a:1", gpus=1, labels=OURS), "need a priorityClassName"),
    ]
    for body, words in cases:
        said = await refusal(guarded, body)
        assert words in said if words else said == "", (body["spec"]["containers"][0]["image"], said)
    path, name = PLURALS["PriorityClass"], high["priorityClassName"]
    await guarded.api.call("POST", path, body={"metadata": {"name": name}, "value": 1})
    try:
        for _ in range(100):  # the API server gets to know the class a little later
            said = await refusal(guarded, pod("a:1", gpus=1, labels=OURS, **high))
            if "no PriorityClass" not in said:
                break
            await asyncio.sleep(0.1)
        assert said == ""
    finally:
        await guarded.api.call("DELETE", f"{path}/{name}")


def test_every_priority_class_passes_the_sample_policy() -> None:
    classes = list(yaml.safe_load_all((K8S / "cluster" / "priorities.yaml").read_text(encoding="utf-8")))
    assert all(each["metadata"]["name"].startswith("tracemend-") for each in classes)
