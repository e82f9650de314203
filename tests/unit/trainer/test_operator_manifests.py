"""What the operator makes of resources, and reads of Jobs and statuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tracemend.trainer.operator.crds import definitions, files
from tracemend.trainer.operator.manifests import attempt_of, job_of, status_of, told_of
from tracemend.trainer.operator.standing import AttemptState, Condition, Phase, Status

COUNTS = st.integers(0, 1000)
TIMES = st.integers(0, 4_000_000_000).map(float)
WORDS = st.text("abc", max_size=5)
CONDITIONS = st.builds(
    Condition, type=WORDS, status=st.sampled_from(["True", "False"]), reason=WORDS, since_s=TIMES, message=WORDS
)
STATUSES = st.builds(
    Status,
    generation=COUNTS,
    phase=st.sampled_from(Phase),
    attempt=COUNTS,
    num_starts=COUNTS,
    was_seen=st.booleans(),
    counted=COUNTS,
    num_failures=COUNTS,
    num_disruptions=COUNTS,
    cleanup_failures=COUNTS,
    started_s=st.none() | TIMES,
    ended_s=st.none() | TIMES,
    message=WORDS,
    progress=st.dictionaries(WORDS, WORDS, max_size=3),
    conditions=st.lists(CONDITIONS, max_size=3).map(tuple),
)


@given(STATUSES)
def test_a_status_comes_back_as_it_was_written(status: Status) -> None:
    assert status_of({"status": json.loads(json.dumps(told_of(status)))}) == status


@given(STATUSES)
def test_everything_that_is_told_stands_in_the_schema(status: Status) -> None:
    """The API server drops what the schema does not name, without a word."""
    for definition in definitions().values():
        whole = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
        told = told_of(status)
        assert told.keys() <= whole["properties"].keys()
        condition = whole["properties"]["conditions"]["items"]["properties"]
        assert all(each.keys() <= condition.keys() for each in told["conditions"])


def resource(**spec: Any) -> dict[str, Any]:
    about = {"name": "a", "namespace": "n", "uid": "u"}
    return {"kind": "TrainingRun", "metadata": about, "spec": {"run": "r", "job": "j", **spec}}


TEMPLATE = {"spec": {"containers": [{"name": "side"}, {"name": "job", "resources": {"requests": {"cpu": "2"}}}]}}


def test_the_template_is_left_as_it_is() -> None:
    before = json.dumps(TEMPLATE)
    made = job_of(resource(image="own", resources={"requests": {"memory": "1Gi"}}), TEMPLATE, 3)
    assert json.dumps(TEMPLATE) == before
    side, job = made["spec"]["template"]["spec"]["containers"]
    assert side == {"name": "side"}
    assert (job["image"], job["resources"]["requests"]) == ("own", {"cpu": "2", "memory": "1Gi"})
    assert made["metadata"]["name"] == "trainingrun-a-3"


def test_gpus_are_asked_for_by_the_name_that_the_cluster_has_for_them() -> None:
    made = job_of(resource(gpusPerNode=2), TEMPLATE, 1, gpu="nvidia.com/mig-3g.40gb")
    job = made["spec"]["template"]["spec"]["containers"][1]
    assert job["resources"]["limits"] == {"nvidia.com/mig-3g.40gb": "2"}


def test_an_attempt_never_restarts_pods_by_itself() -> None:
    spec = job_of(resource(nodes=4), TEMPLATE, 1)["spec"]
    assert (spec["backoffLimit"], spec["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert spec["podReplacementPolicy"] == "Failed"
    assert {rule["action"] for rule in spec["podFailurePolicy"]["rules"]} == {"FailJob"}
    assert "backoffLimitPerIndex" not in spec


def pod(*, code: int = 0, at: str = "", phase: str = "Failed", disrupted: bool = False) -> dict[str, Any]:
    end = {"exitCode": code, "finishedAt": at, "message": f"ended by {code}\n"}
    status: dict[str, Any] = {
        "phase": phase,
        "containerStatuses": [{"name": "job", "state": {"terminated": end}}, {"name": "side", "state": {}}],
    }
    if disrupted:
        status["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    return {"status": status}


def test_of_several_pods_the_one_that_failed_first_says_why() -> None:
    failed = {
        "type": "Failed",
        "status": "True",
        "lastTransitionTime": "2027-01-15T08:00:00Z",
        "message": "BackoffLimit",
    }
    job = {
        "metadata": {"labels": {"tracemend.dev/attempt": "2"}},
        "spec": {},
        "status": {"conditions": [{"type": "FailureTarget", "status": "True"}, failed]},
    }
    pods = [pod(code=1, at="2027-01-15T07:59:59Z"), pod(code=2, at="2027-01-15T07:59:50Z"), pod(phase="Running")]
    attempt = attempt_of(job, pods)
    assert (attempt.number, attempt.state, attempt.num_pods) == (2, AttemptState.FAILED, 1)
    assert (attempt.exit_code, attempt.message, attempt.was_disrupted) == (2, "ended by 2", False)
    assert attempt.ended_s == 1_800_000_000.0
    assert attempt_of(job, [pod(code=143, disrupted=True)]).was_disrupted
    assert attempt_of(job, []).message == "BackoffLimit"


def test_a_job_that_still_ends_its_pods_has_not_ended() -> None:
    job = {
        "metadata": {"labels": {"tracemend.dev/attempt": "1"}},
        "spec": {"suspend": False},
        "status": {"conditions": [{"type": "FailureTarget", "status": "True"}]},
    }
    assert attempt_of(job, [pod(phase="Running")]).state is AttemptState.ACTIVE


CRDS = Path(__file__).parents[3] / "charts" / "tracemend" / "files" / "crds"


@pytest.mark.parametrize("name", ["evaluationruns.yaml", "trainingruns.yaml"])
def test_the_chart_s_definitions_are_those_of_the_code(name: str) -> None:
    """`python -m tracemend.trainer.operator.crds charts/tracemend/files/crds` writes them anew."""
    text = (CRDS / name).read_text(encoding="utf-8")
    assert text == files()[name]
    assert yaml.safe_load(text) == definitions()[name]
