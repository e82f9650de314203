"""The chart on a real node, from nothing to nothing: installed, tried, upgraded in the middle of a run, its pods killed
in the middle of another one that trains and measures, and removed. The tests are one story, told in their order."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.chart.releases import CHART, HERE, Release, open_release
from tests.needs import needs_pods

from tracemend.proving.base_model import ensure_base

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ARM = "unsafechain"
TARGET = "proving-base"
SERVICES = ("ingestion", "generator", "judge", "corrector", "trainer", "evaluator")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    environment = needs_pods()
    folder = tmp_path_factory.mktemp("chart")
    cache = Path(os.environ.get("TRACEMEND_CACHE") or folder / "cache")
    base = ensure_base(cache=cache, seed=0, num_threads=1)
    models = folder / "models"
    shutil.copytree(base, models / base.name)
    for each in (models, *models.rglob("*")):  # pods are nobody in particular
        each.chmod(0o755 if each.is_dir() else 0o644)
    with open_release(folder, environment=environment, models=models) as opened:
        yield opened


def test_it_is_installed_and_a_batch_goes_through(release: Release, tmp_path: Path) -> None:
    """An older version of the chart, as far as helm and the labels can tell."""
    release.helm("package", str(CHART), "--version=0.0.1", f"--destination={tmp_path}")
    release.deploy("install", tmp_path / "tracemend-0.0.1.tgz", "--set", "podDisruptionBudgets=false")
    with release.timed("helm test"):
        release.helm("test", "tracemend", "--timeout=5m")
    assert "done" in release.states().values()


def test_a_run_outlives_an_upgrade_of_the_chart(release: Release, tmp_path: Path) -> None:
    plan = tmp_path / "scripted.yaml"
    plan.write_text(yaml.safe_dump(scripted_run(num_prompts=300)), encoding="utf-8")
    run = json.loads(release.command("submit", str(plan), "--json"))["run"]
    release.deploy("upgrade", CHART)
    assert release.states()[run] != "failed"
    release.command("watch", run)
    assert release.states()[run] == "done"
    version = {pod["metadata"]["labels"]["helm.sh/chart"] for service in SERVICES for pod in release.pods(service)}
    assert len(version) == 1
    assert version != {"tracemend-0.0.1"}


def test_a_run_is_trained_and_measured_although_every_pod_is_killed_once(release: Release) -> None:
    with release.timed("submit to report"):
        run = json.loads(release.command("submit", str(HERE / "run.yaml"), "--json"))["run"]
        release.kill_and_wait("ingestion", "generator", "judge", "corrector")
        release.wait(lambda: bool(trainings(release)), "the run's training is at work", within_s=600)
        (first,) = trainings(release)
        with release.timed("recovery of a training"):
            release.kill(first)
            release.wait(lambda: bool(trainings(release) - {first}), "there is another attempt", within_s=120)
        release.kill_and_wait("trainer", "evaluator", "operator")
        release.command("watch", run, within_s=900)
    assert release.states()[run] == "done"
    trained = partial(status_of, release, "trainingruns", run)
    release.wait(lambda: trained()["phase"] == "Succeeded", "the TrainingRun has succeeded", within_s=60)
    assert trained()["attempt"] == 2
    with release.timed("evaluation"):
        report = asyncio.run(evaluated(release, run))
    assert set(report["arms"]) >= {"base", ARM}, list(report)
    ended = partial(status_of, release, "evaluationruns", run)  # the operator tells after the evaluator has told
    release.wait(lambda: ended()["phase"] == "Succeeded", "the EvaluationRun has succeeded", within_s=60)


def test_nothing_of_it_is_left_when_it_is_uninstalled(release: Release) -> None:
    """What users made is theirs to delete: runs' resources go first."""
    release.kubectl("delete", "trainingruns,evaluationruns", "--all", "--timeout=120s")
    with release.timed("uninstall"):
        release.helm("uninstall", "tracemend", "--wait", "--timeout=3m")
        release.wait(lambda: release.named() <= release.before, "everything is gone", within_s=120)


def scripted_run(*, num_prompts: int) -> dict[str, Any]:
    """A run that needs no model: its target says what a script says, under the served target's name."""
    judge = {"name": "last_word"}
    return {
        "name": "scripted",
        "models": {"teacher": {"engine": "scripted:null_teacher"}},
        "prompts": [{"source": "numbered", "count": num_prompts}],
        "ingestion": {"filters": {"near_duplicates": False}},
        "target": {"model": "null", "served_as": TARGET, "engine": "scripted:null_target", "samples": 2},
        "judge": {"harm": judge, "refusal": judge, "correctness": judge},
        "arms": {"rewrite": {"correct": {"strategy": "rewrite", "teacher": "teacher"}}},
        "limits": {"unfinished_prompts": 32},
    }


def trainings(release: Release) -> set[str]:
    """Pods of jobs that are at work."""
    return {pod["metadata"]["name"] for pod in release.pods("job") if pod["status"]["phase"] == "Running"}


def status_of(release: Release, plural: str, run: str) -> Any:
    (found,) = (each for each in release.get(plural)["items"] if each["spec"]["run"] == run)
    return found["status"]


async def evaluated(release: Release, run: str) -> Any:
    """The run's report, once its arm was measured again at the evaluator's door."""
    import grpc

    from tracemend.api.evaluator.v1 import evaluator_service_pb2 as pb
    from tracemend.api.evaluator.v1.evaluator_service_pb2_grpc import EvaluatorServiceStub

    (pod,) = release.pods("evaluator")
    token = (("authorization", f"Bearer {(release.folder / 'token').read_text()}"),)
    async with grpc.aio.insecure_channel(f"{pod['status']['podIP']}:8443") as channel:
        stub: Any = EvaluatorServiceStub(channel)
        start = pb.StartEvaluationRequest(run=f"runs/{run}", arm=ARM, request_id=str(uuid.uuid4()))
        begun = (await stub.StartEvaluation(start, timeout=60, metadata=token)).evaluation
        watched = stub.WatchEvaluation(pb.WatchEvaluationRequest(name=begun.name), timeout=900, metadata=token)
        last = [message.evaluation async for message in watched][-1]
        assert last.state == pb.Evaluation.STATE_SUCCEEDED, last
        got = await stub.GetReport(pb.GetReportRequest(run=f"runs/{run}"), timeout=60, metadata=token)
        return json.loads(got.figures)
