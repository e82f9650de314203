"""The operator and its custom resources against a real API server and Job controller; pods' ends are played."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.cluster.operator.sites import Site, open_site

from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.server_ports import Conflict
from tracemend.trainer.operator.cluster import PLURALS, KubernetesCluster
from tracemend.trainer.operator.desk import Desk
from tracemend.trainer.operator.manifests import FINALIZER
from tracemend.trainer.operator.reconcile import MAX_CLEANUPS


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as opened:
        yield opened


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("TrainingRun", {"run": ""}, "run"),
        ("TrainingRun", {"nodes": 0}, "nodes"),
        ("TrainingRun", {"nodes": 65}, "nodes"),
        ("TrainingRun", {"dataset": "d"}, "dataset needs the arm"),
        ("TrainingRun", {"maxFailures": 0}, "maxFailures"),
        ("TrainingRun", {"resources": {"limits": {"memory": True}}}, "memory"),
        ("EvaluationRun", {"arm": None}, "arm"),
    ],
)
async def test_what_cannot_work_is_refused_without_the_operator(
    site: Site, kind: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SetupError, match=words):
        await site.create("a", kind=kind, **changes)


@pytest.mark.parametrize("name", ["a" * 41, "1.2"])
async def test_names_that_children_could_not_carry_are_refused_with_the_reason(site: Site, name: str) -> None:
    with pytest.raises(SetupError, match="DNS label of at most 40 characters"):
        await site.create(name)


async def test_what_a_run_is_to_do_never_changes(site: Site) -> None:
    key = await site.create("a", arm="x")
    for change in ({"run": "other"}, {"arm": None}, {"image": "new"}, {"nodes": 2}, {"resources": {"limits": {}}}):
        with pytest.raises(SetupError, match=r"delete the run|cannot be added"):
            await site.change(key, **change)
    await site.change(key, suspend=True, ttlSecondsAfterFinished=5, activeDeadlineSeconds=60)


async def test_a_run_becomes_a_job_and_its_end_the_run_s(site: Site) -> None:
    key = await site.create("a", arm="x", gpusPerNode=2, resources={"requests": {"memory": "1Gi"}})
    await site.desk().look(key)
    (job,) = await site.jobs()
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("TrainingRun", "a", True)
    pod = job["spec"]["template"]
    container = pod["spec"]["containers"][0]
    assert pod["metadata"]["labels"]["own"] == "label"
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment["KEPT"] == "1"
    assert environment["TRACEMEND_JOB_ORDER"] == '{"arm": "x", "job": "job_1", "kind": "TrainingRun", "run": "run_1"}'
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    site.table.told = {"step": "12", "loss": "0.5"}
    assert (await site.until(key, "Running"))["progress"] == {"step": "12", "loss": "0.5"}
    await site.end_pods("trainingrun-a-1")
    status = await site.until(key, "Succeeded")
    assert status["observedGeneration"] == 1
    assert {each["type"] for each in status["conditions"] if each["status"] == "True"} == {"Succeeded"}


async def test_a_status_that_says_nothing_new_is_not_written_again(site: Site) -> None:
    key = await site.create("a")
    await site.until(key, "Running")
    version = (await site.read(key))["metadata"]["resourceVersion"]
    for _ in range(3):
        await site.desk().look(key)
    assert (await site.read(key))["metadata"]["resourceVersion"] == version


async def test_a_mistake_of_the_user_fails_at_once_with_the_job_s_words(site: Site) -> None:
    key = await site.create("a")
    await site.until(key, "Running")
    await site.end_pods("trainingrun-a-1", code=2, words="train.learning_rate is too high; lower it")
    status = await site.until(key, "Failed")
    assert status["message"] == "train.learning_rate is too high; lower it"
    assert len(await site.jobs()) == 1


async def test_a_disrupted_attempt_is_followed_by_another_and_its_job_stays(site: Site) -> None:
    key = await site.create("a", maxFailures=1)
    await site.until(key, "Running")
    await site.end_pods("trainingrun-a-1", code=143, disrupted=True)
    for _ in range(100):
        await site.desk().look(key)
        if len(await site.jobs()) == 2:
            break
        await asyncio.sleep(0.1)
    await site.end_pods("trainingrun-a-2")
    status = await site.until(key, "Succeeded")
    assert (status["attempt"], status["failures"], status["disruptions"]) == (2, 0, 1)


async def test_several_nodes_are_one_indexed_job_behind_a_headless_service(site: Site) -> None:
    key = await site.create("a", nodes=2)
    await site.until(key, "Running")
    (job,) = await site.jobs()
    assert (job["spec"]["completionMode"], job["spec"]["completions"], job["spec"]["parallelism"]) == ("Indexed", 2, 2)
    service = await site.api.call("GET", f"/api/v1/namespaces/{site.namespace}/services/trainingrun-a")
    assert service is not None
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    pods = await site.pods("trainingrun-a-1")
    assert {pod["spec"]["subdomain"] for pod in pods} == {"trainingrun-a"}
    environment = {each["name"]: each.get("value") for each in pods[0]["spec"]["containers"][0]["env"]}
    assert environment["TRACEMEND_JOB_RENDEZVOUS"] == "trainingrun-a-1-0.trainingrun-a:29400"
    assert environment.keys() >= {"JOB_COMPLETION_INDEX", "TRACEMEND_JOB_ATTEMPT"}, "Kubernetes adds the first"
    assert {pod["spec"]["hostname"] for pod in pods} >= {"trainingrun-a-1-0"}
    for pod in pods:
        assert all(pod["metadata"]["labels"][key] == value for key, value in service["spec"]["selector"].items())


async def test_a_queued_run_has_its_label_once_and_no_pods(site: Site) -> None:
    key = await site.create("a", queueName="gpus")
    status = await site.until(key, "Queued")
    (job,) = await site.jobs()
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "kueue.x-k8s.io/queue-name" not in job["spec"]["template"]["metadata"]["labels"]
    assert job["spec"]["suspend"] is True
    assert status["attempt"] == 1
    pods = await site.api.call("GET", f"/api/v1/namespaces/{site.namespace}/pods")
    assert pods is not None
    assert pods["items"] == []


async def test_suspending_takes_the_job_away_and_resuming_starts_another(site: Site) -> None:
    key = await site.create("a")
    await site.until(key, "Running")
    await site.change(key, suspend=True)
    await site.until(key, "Suspended")
    await site.change(key, suspend=False)
    for _ in range(200):
        await site.desk().look(key)
        if [job["metadata"]["name"] for job in await site.jobs()] == ["trainingrun-a-2"]:
            break
        await asyncio.sleep(0.1)
    assert [job["metadata"]["name"] for job in await site.jobs()] == ["trainingrun-a-2"]


async def test_an_operator_that_starts_anew_goes_on_where_the_last_one_was(site: Site) -> None:
    key = await site.create("a")
    await site.desk().look(key)  # created, and not seen yet
    await site.until(key, "Running", desk=site.desk())
    assert len(await site.jobs()) == 1


async def test_a_training_and_an_evaluation_may_share_a_name(site: Site) -> None:
    keys = [await site.create("a", kind=kind) for kind in PLURALS]
    for key in keys:
        await site.until(key, "Running")
    assert [job["metadata"]["name"] for job in await site.jobs()] == ["evaluationrun-a-1", "trainingrun-a-1"]


async def test_a_run_of_the_same_name_takes_nothing_over_from_the_one_before(site: Site) -> None:
    key = await site.create("a")
    await site.until(key, "Running")
    await site.end_pods("trainingrun-a-1")
    await site.until(key, "Succeeded")
    await site.api.call("DELETE", site.path(key.kind, key.name), query={"propagationPolicy": "Orphan"})
    for _ in range(100):
        with contextlib.suppress(Conflict):  # the garbage collector writes it too
            await site.desk().look(key)
        if await site.read(key) is None:
            break
        await asyncio.sleep(0.1)
    again = await site.create("a")
    with pytest.raises(Retry, match="trainingrun-a-1 is another owner's; delete it"):
        await site.desk().look(again)
    await site.api.call("DELETE", f"/apis/batch/v1/namespaces/{site.namespace}/jobs/trainingrun-a-1")
    await site.until(again, "Running")


async def test_a_deleted_run_cancels_its_job_and_takes_its_children_along(site: Site) -> None:
    key = await site.create("a")
    await site.until(key, "Running")
    await site.api.call("DELETE", site.path(key.kind, key.name))
    assert FINALIZER in (await site.read(key))["metadata"]["finalizers"]
    await site.desk().look(key)
    assert await site.read(key) is None
    assert site.table.cancelled == ["job_1"]
    for _ in range(100):
        if await site.jobs() == []:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("its job stays")


async def test_a_deleted_run_goes_even_where_nothing_outside_answers(site: Site) -> None:
    key = await site.create("a")
    await site.until(key, "Running")
    site.table.is_away = True
    await site.api.call("DELETE", site.path(key.kind, key.name))
    for _ in range(MAX_CLEANUPS):
        await site.desk().look(key)
        assert await site.read(key) is not None
    await site.desk().look(key)
    assert await site.read(key) is None


async def test_the_desk_finds_runs_that_nobody_told_it_of(site: Site) -> None:
    key = await site.create("a")
    desk = Desk(cluster=KubernetesCluster(api=site.api, namespace=site.namespace, template="job"), outside=site.table)
    working = asyncio.create_task(desk.work())
    try:
        for _ in range(100):
            if await site.jobs():
                break
            await asyncio.sleep(0.1)
        desk.tell(key)
        for _ in range(100):
            if (await site.status(key))["phase"] == "Running":
                break
            await asyncio.sleep(0.1)
    finally:
        working.cancel()
    assert (await site.status(key))["phase"] == "Running"
