"""Between what the operator decides on and what the Kubernetes API keeps: plain mappings in, plain mappings out.

A run's Jobs are made from the PodTemplate that the chart renders (secrets, volumes, security, the store's and the
ledger's addresses stand there, and in no custom resource); a resource adds what it is to do and on how many nodes and
GPUs. One node is a Job; several are an Indexed Job behind a headless Service, whose pods find the first one by name.
Distributed training fails as a whole, so a Job never restarts single pods: another attempt is another Job.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from tracemend.trainer.operator.standing import (
    FINAL_CODES,
    Attempt,
    AttemptState,
    Condition,
    Phase,
    Status,
    Wanted,
)

GROUP, VERSION = "tracemend.dev", "v1alpha1"
RUN_LABEL, ATTEMPT_LABEL = f"{GROUP}/run", f"{GROUP}/attempt"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
FINALIZER = f"{GROUP}/clean-up"
CONTAINER = "job"
"""Of the pod template: the container that does the work."""
RENDEZVOUS_PORT = 29400
GPU = "nvidia.com/gpu"
_ORDER_FIELDS = ("run", "job", "arm", "dataset")
_DISRUPTED = "DisruptionTarget"

Json = dict[str, Any]


def wanted_of(resource: Mapping[str, Any]) -> Wanted:
    """What of a TrainingRun or EvaluationRun decides the course of its attempts."""
    spec = resource["spec"]
    return Wanted(
        suspend=spec.get("suspend", False),
        max_failures=spec.get("maxFailures", 6),
        deadline_s=spec.get("activeDeadlineSeconds"),
        ttl_s=spec.get("ttlSecondsAfterFinished"),
    )


# ---------------------------------------------------------------------------------------------- making


def job_of(resource: Mapping[str, Any], template: Mapping[str, Any], attempt: int, *, gpu: str = GPU) -> Json:
    """The Job of an attempt at `resource`, its pods made from `template` (a PodTemplate's `template`). `gpu` is the
    resource that GPUs are asked for as."""
    spec, name = resource["spec"], child_name(resource)
    nodes = spec.get("nodes", 1)
    labels = {RUN_LABEL: name, ATTEMPT_LABEL: str(attempt)}
    queue = {QUEUE_LABEL: spec["queueName"]} if spec.get("queueName") else {}
    several = {"completionMode": "Indexed", "completions": nodes, "parallelism": nodes} if nodes > 1 else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _child(resource, job_name(name, attempt), {**labels, **queue}),
        "spec": {
            # A queue starts it; until then no pod stands in anybody's way.
            "suspend": bool(queue),
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            **several,
            "template": _pods(resource, template, labels, attempt, gpu=gpu),
        },
    }


def service_of(resource: Mapping[str, Any]) -> Json:
    """The headless Service by which the pods of several nodes find each other, ready or not."""
    name = child_name(resource)
    port = {"name": "rendezvous", "port": RENDEZVOUS_PORT}
    selector = {RUN_LABEL: name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _child(resource, name, selector),
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector, "ports": [port]},
    }


def child_name(resource: Mapping[str, Any]) -> str:
    """What the children of a run are called and labelled: a TrainingRun and an EvaluationRun may share a name."""
    return f"{resource['kind'].lower()}-{resource['metadata']['name']}"


def job_name(run: str, attempt: int) -> str:
    """Of an attempt of the run whose children are called `run`: the number stands in it, so that creating it twice
    makes one."""
    return f"{run}-{attempt}"


def order_of(resource: Mapping[str, Any]) -> str:
    """What the job is to do, as the JSON that its process reads (`programs.job_pod`)."""
    spec = resource["spec"]
    return json.dumps(
        {"kind": resource["kind"], **{field: spec[field] for field in _ORDER_FIELDS if spec.get(field)}}, sort_keys=True
    )


def _child(resource: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> Json:
    about = resource["metadata"]
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": resource["kind"],
        "name": about["name"],
        "uid": about["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    common = {"app.kubernetes.io/name": "tracemend", "app.kubernetes.io/component": "job"}
    return {
        "name": name,
        "namespace": about["namespace"],
        "labels": {**common, **labels},
        "ownerReferences": [owner],
    }


def _failure_rules() -> list[Json]:
    """Any failure ends the attempt, and the operator decides; the Job's condition tells it what it was."""
    disrupted = {"action": "FailJob", "onPodConditions": [{"type": _DISRUPTED, "status": "True"}]}
    codes = {"containerName": CONTAINER, "operator": "In", "values": sorted(FINAL_CODES)}
    return [{"action": "FailJob", "onExitCodes": codes}, disrupted]


def _pods(
    resource: Mapping[str, Any], template: Mapping[str, Any], labels: Mapping[str, str], attempt: int, *, gpu: str
) -> Json:
    spec, name, nodes = resource["spec"], child_name(resource), resource["spec"].get("nodes", 1)
    pods: Json = deepcopy(dict(template))
    about = pods.setdefault("metadata", {})
    about["labels"] = {**about.get("labels", {}), **labels}
    inside = pods["spec"]
    inside["restartPolicy"] = "Never"
    if spec.get("priorityClassName"):
        inside["priorityClassName"] = spec["priorityClassName"]
    container = next(each for each in inside["containers"] if each["name"] == CONTAINER)
    if spec.get("image"):
        container["image"] = spec["image"]
    container["resources"] = _resources(container.get("resources", {}), spec, gpu=gpu)
    environment = {"TRACEMEND_JOB_ORDER": order_of(resource), "TRACEMEND_JOB_NODES": str(nodes)}
    if nodes > 1:
        inside["subdomain"] = name
        first = f"{job_name(name, attempt)}-0.{name}"
        environment["TRACEMEND_JOB_RENDEZVOUS"] = f"{first}:{RENDEZVOUS_PORT}"
        # A run of the same name later has attempts of the same numbers, and may use the same folder.
        environment["TRACEMEND_JOB_ATTEMPT"] = f"{resource['metadata']['uid']}-{attempt}"
    own = [{"name": key, "value": value} for key, value in environment.items()]
    container["env"] = [*(each for each in container.get("env", []) if each["name"] not in environment), *own]
    return pods


def _resources(usual: Mapping[str, Any], spec: Mapping[str, Any], *, gpu: str) -> Json:
    """The template's, with the resource's own on top; GPUs are requested as they are limited."""
    asked = spec.get("resources", {})
    gpus = {gpu: str(spec["gpusPerNode"])} if spec.get("gpusPerNode") else {}
    return {
        "requests": {**usual.get("requests", {}), **asked.get("requests", {}), **gpus},
        "limits": {**usual.get("limits", {}), **asked.get("limits", {}), **gpus},
    }


# ---------------------------------------------------------------------------------------------- seeing


def attempt_of(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> Attempt:
    """A Job and its pods, as an attempt."""
    status = job.get("status", {})
    true = {each["type"]: each for each in status.get("conditions", []) if each["status"] == "True"}
    ended = true.get("Complete") or true.get("Failed")
    code, message = _first_failure(pods)
    state = AttemptState.QUEUED if job["spec"].get("suspend") else AttemptState.ACTIVE
    if ended is not None:
        state = AttemptState.SUCCEEDED if ended["type"] == "Complete" else AttemptState.FAILED
    return Attempt(
        number=int(job["metadata"]["labels"][ATTEMPT_LABEL]),
        state=state,
        num_pods=sum(pod.get("status", {}).get("phase") not in ("Succeeded", "Failed") for pod in pods),
        exit_code=code,
        was_disrupted=any(_is_disrupted(pod) for pod in pods),
        is_going=bool(job["metadata"].get("deletionTimestamp")),
        message=message or (ended or {}).get("message", ""),
        ended_s=seconds_of((ended or {}).get("lastTransitionTime")),
    )


def _first_failure(pods: Sequence[Mapping[str, Any]]) -> tuple[int | None, str]:
    """Exit code and last words of the container that failed first: the others lost a neighbour."""
    ends = [
        container["state"]["terminated"]
        for pod in pods
        for container in pod.get("status", {}).get("containerStatuses", [])
        if container["name"] == CONTAINER and (container.get("state") or {}).get("terminated", {}).get("exitCode")
    ]
    if not ends:
        return None, ""
    first = min(ends, key=lambda end: end.get("finishedAt") or "")
    return first["exitCode"], (first.get("message") or "").strip()


def _is_disrupted(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == _DISRUPTED and each["status"] == "True" for each in conditions)


# ---------------------------------------------------------------------------------------------- status


def status_of(resource: Mapping[str, Any]) -> Status:
    """The status that a resource carries; the first one where it carries none."""
    told = resource.get("status") or {}
    if not told:
        return Status()
    return Status(
        generation=told.get("observedGeneration", 0),
        phase=Phase(told.get("phase", Phase.PENDING)),
        attempt=told.get("attempt", 0),
        num_starts=told.get("starts", 0),
        was_seen=told.get("attemptSeen", False),
        counted=told.get("countedAttempt", 0),
        num_failures=told.get("failures", 0),
        num_disruptions=told.get("disruptions", 0),
        cleanup_failures=told.get("cleanupFailures", 0),
        started_s=seconds_of(told.get("startTime")),
        ended_s=seconds_of(told.get("endTime")),
        message=told.get("message", ""),
        progress=told.get("progress") or {},
        conditions=tuple(_condition_of(each) for each in told.get("conditions") or []),
    )


def told_of(status: Status) -> Json:
    """`status` as the resource carries it: `status_of` reads it back."""
    told = {
        "observedGeneration": status.generation,
        "phase": str(status.phase),
        "attempt": status.attempt,
        "starts": status.num_starts,
        "attemptSeen": status.was_seen,
        "countedAttempt": status.counted,
        "failures": status.num_failures,
        "disruptions": status.num_disruptions,
        "cleanupFailures": status.cleanup_failures,
        "startTime": time_of(status.started_s),
        "endTime": time_of(status.ended_s),
        "message": status.message,
        "progress": dict(status.progress),
        "conditions": [_told_condition(each, status.generation) for each in status.conditions],
    }
    return {key: value for key, value in told.items() if value is not None}


def _condition_of(told: Mapping[str, Any]) -> Condition:
    since_s = seconds_of(told["lastTransitionTime"])
    assert since_s is not None, "the schema requires it"
    fields = {key: told.get(key, "") for key in ("type", "status", "reason", "message")}
    return Condition(**fields, since_s=since_s)


def _told_condition(condition: Condition, generation: int) -> Json:
    fields = {key: value for key, value in asdict(condition).items() if key != "since_s"}
    return {**fields, "lastTransitionTime": time_of(condition.since_s), "observedGeneration": generation}


def seconds_of(time: str | None) -> float | None:
    """Seconds since 1970 of a time as the Kubernetes API writes it."""
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp() if time else None


def time_of(seconds: float | None) -> str | None:
    """The other way round, in whole seconds as the API keeps them."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(int(seconds), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
