"""The operator with no more rights than the chart gives it: they are all that it needs, and not those to secrets."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.operator.sites import NOBODY, Site, open_site, operator
from tests.needs import needs_kubernetes, needs_tool

from tracemend.trainer.operator.pool import POOL_LABEL

ROOT = Path(__file__).parents[3]
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as opened:
        yield opened


def rendered_role() -> dict[str, Any]:
    """The operator's, of a release whose pool is shared."""
    values = ROOT / "k8s" / "overlays" / "laptop.yaml"
    chart = ["template", "tracemend", ROOT / "charts" / "tracemend", "--kube-version", "1.36.0"]
    made = subprocess.run(
        [needs_tool("helm"), *chart, "--values", values, "--set", "gpu.pool=shared"], capture_output=True, check=True
    )
    documents = [each for each in yaml.safe_load_all(made.stdout) if each]
    (role,) = [
        each for each in documents if each["kind"] == "Role" and each["metadata"]["name"] == "tracemend-operator"
    ]
    return dict(role)


async def kubeconfig(site: Site, folder: Path) -> str:
    """One whose bearer has the operator's role in the site's namespace."""
    names, account = {"metadata": {"name": "operator"}}, f"/api/v1/namespaces/{site.namespace}/serviceaccounts"
    await site.api.call("POST", account, body=names)
    rbac = RBAC.format(site.namespace)
    await site.api.call("POST", f"{rbac}/roles", body={**names, "rules": rendered_role()["rules"]})
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": site.namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"}
    await site.api.call("POST", f"{rbac}/rolebindings", body={**names, "roleRef": role, "subjects": [subject]})
    asked = await site.api.call("POST", f"{account}/operator/token", body={"spec": {"expirationSeconds": 3600}})
    assert asked is not None
    config = yaml.safe_load(Path(needs_kubernetes()).read_text(encoding="utf-8"))
    config["users"][0]["user"] = {"token": asked["status"]["token"]}
    path = folder / "operator.kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return str(path)


async def test_the_chart_s_role_is_enough_for_all_that_the_operator_does(site: Site, tmp_path: Path) -> None:
    inside = {"schedulerName": NOBODY, "containers": [{"name": "a", "image": "x"}]}
    pods = {"metadata": {"labels": {"app": "g"}}, "spec": inside}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "g"}}, "template": pods}
    about = {"name": "generator", "labels": {POOL_LABEL: "shared"}}
    deployments = f"/apis/apps/v1/namespaces/{site.namespace}/deployments"
    await site.api.call("POST", deployments, body={"metadata": about, "spec": spec})

    async def replicas() -> int:
        found: Any = await site.api.call("GET", f"{deployments}/generator")
        return int(found["spec"]["replicas"])

    async def is_at(phase: str) -> bool:
        run = await site.api.call("GET", site.path("TrainingRun", "a"))
        return (run or {}).get("status", {}).get("phase", "gone") == phase

    settings = {"KUBECONFIG": await kubeconfig(site, tmp_path), "TRACEMEND_GPU_POOL": "shared"}
    with operator(site, tmp_path, **settings) as process:

        async def until(what: Callable[[], Awaitable[Any]], wanted: Any) -> None:
            for _ in range(300):
                assert process.poll() is None, (tmp_path / "operator.log").read_text()[-3000:]
                if await what() == wanted:
                    return
                await asyncio.sleep(0.1)
            raise AssertionError((tmp_path / "operator.log").read_text()[-3000:])

        await site.create("a", nodes=2, ttlSecondsAfterFinished=1)
        await until(lambda: is_at("Running"), True)
        await until(replicas, 0)
        await site.end_pods("trainingrun-a-1")
        await until(lambda: is_at("gone"), True)
        await until(replicas, 2)
        events: Any = await site.api.call("GET", f"/apis/events.k8s.io/v1/namespaces/{site.namespace}/events")
        assert {"TrainingRun"} <= {each["regarding"]["kind"] for each in events["items"]}


def test_it_may_touch_no_secret_and_no_pod_and_names_everything_that_it_may() -> None:
    rules = rendered_role()["rules"]
    assert not any("*" in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]] for rule in rules)
    allowed = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert not any(resource == "secrets" for resource, _ in allowed)
    assert {verb for resource, verb in allowed if resource == "pods"} == {"get", "list", "watch"}
