"""The custom resource definitions, made from this: `python -m tracemend.trainer.operator.crds FOLDER`.

The API server enforces them without the operator: what a run is to do never changes once it is created (only `suspend`
and the times to live do), and what cannot work is refused when it is asked for. The files under charts/ are these.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracemend.trainer.operator.manifests import GROUP, VERSION, Json
from tracemend.trainer.operator.standing import Phase

_LONGEST_NAME = 40
"""Children append a kind, an attempt and a node, and host names end at 63."""
_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_FIXED = [{"rule": "self == oldSelf", "message": "is what the run is; delete the run and create another one"}]
_QUANTITIES = {
    "type": "object",
    "maxProperties": 16,
    "additionalProperties": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
}


def definitions() -> Mapping[str, Json]:
    """File name to definition."""
    training = {
        **_shared(),
        "arm": _fixed_text(
            "Arm of the run file that is trained; without it, the job does all that is left of the run."
        ),
        "dataset": _fixed_text("Dataset version that the training is meant for; the arm's newest where it is empty."),
        "nodes": _fixed_number("Nodes that train together: pods of one Indexed Job.", low=1, high=64, default=1),
    }
    rules = [{"rule": "!has(self.dataset) || has(self.arm)", "message": "dataset needs the arm that it is of"}]
    evaluation = {
        **_shared(),
        "arm": _fixed_text("Arm of the run file that is measured; `base` is the target itself."),
    }
    return {
        "trainingruns.yaml": _definition("TrainingRun", "trun", training, required=["run", "job"], rules=rules),
        "evaluationruns.yaml": _definition(
            "EvaluationRun", "erun", evaluation, required=["run", "job", "arm"], rules=[]
        ),
    }


def _shared() -> Json:
    return {
        "run": _fixed_text("Id of the run whose job this is.", least=1),
        "job": _fixed_text("Key of the job in the job table, which knows the plan and fences attempts.", least=1),
        "image": _fixed_text("Image of the job's container; the pod template's where it is empty."),
        "gpusPerNode": _fixed_number("GPUs that each pod asks for.", low=0, high=16, default=0),
        "resources": {
            "type": "object",
            "description": "Requests and limits of the job's container, on top of the pod template's.",
            "properties": {"requests": _QUANTITIES, "limits": _QUANTITIES},
            "x-kubernetes-validations": _FIXED,
        },
        "queueName": _fixed_text("Kueue's local queue; the Job waits, suspended, until it is admitted."),
        "priorityClassName": _fixed_text("Of the pods."),
        "maxFailures": _fixed_number("Failed attempts after which the run has failed; disruptions do not count.",
                                     low=1, high=100, default=6),
        "activeDeadlineSeconds": {"type": "integer", "minimum": 1, "description": "For all attempts together."},
        "ttlSecondsAfterFinished": {"type": "integer", "minimum": 0, "description": "When an ended run is deleted."},
        "suspend": {"type": "boolean", "default": False, "description": "Stops the attempt, which keeps a checkpoint."},
    }  # fmt: skip


def _fixed_text(description: str, *, least: int = 0) -> Json:
    bounds = {"minLength": least, "maxLength": 253}
    return {"type": "string", "description": description, **bounds, "x-kubernetes-validations": _FIXED}


def _fixed_number(description: str, *, low: int, high: int, default: int) -> Json:
    bounds = {"minimum": low, "maximum": high, "default": default}
    return {"type": "integer", "description": description, **bounds, "x-kubernetes-validations": _FIXED}


def _definition(kind: str, short: str, spec: Json, *, required: list[str], rules: list[Json]) -> Json:
    plural = f"{kind.lower()}s"
    # An optional field could be added or taken away past its own rule, which only sees it when it is there twice.
    kept = [field for field in spec if "x-kubernetes-validations" in spec[field] and field not in required]
    presence = [
        {"rule": f"has(self.{field}) == has(oldSelf.{field})", "message": f"{field} cannot be added or taken away"}
        for field in kept
    ]
    name = {
        "rule": f"size(self.metadata.name) <= {_LONGEST_NAME} && self.metadata.name.matches('{_NAME}')",
        "message": f"the name must be a DNS label of at most {_LONGEST_NAME} characters: children append to it",
    }
    whole = {
        "type": "object",
        "required": ["spec"],
        "x-kubernetes-validations": [name],
        "properties": {
            "spec": {
                "type": "object",
                "required": required,
                "properties": spec,
                "x-kubernetes-validations": [*rules, *presence],
            },
            "status": _status(),
        },
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": _columns(),
        "schema": {"openAPIV3Schema": whole},
    }
    names = {
        "kind": kind,
        "plural": plural,
        "singular": kind.lower(),
        "shortNames": [short],
        "categories": ["tracemend"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _columns() -> list[Json]:
    told = {"Phase": ".status.phase", "Arm": ".spec.arm", "Step": ".status.progress.step"}
    text = [{"name": name, "type": "string", "jsonPath": path} for name, path in told.items()]
    attempt = {"name": "Attempt", "type": "integer", "jsonPath": ".status.attempt"}
    queue = {"name": "Queue", "type": "string", "jsonPath": ".spec.queueName", "priority": 1}
    age = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
    return [*text, attempt, queue, age]


def _status() -> Json:
    counts = ("observedGeneration", "attempt", "starts", "countedAttempt", "failures", "disruptions", "cleanupFailures")
    condition = {
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason"],
        "properties": {
            "type": {"type": "string", "maxLength": 64},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": {"type": "string", "maxLength": 128},
            "message": {"type": "string", "maxLength": 1024},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": {"type": "integer"},
        },
    }
    return {
        "type": "object",
        "properties": {
            "phase": {"type": "string", "enum": [str(phase) for phase in Phase]},
            **{name: {"type": "integer", "minimum": 0} for name in counts},
            "attemptSeen": {"type": "boolean"},
            "startTime": {"type": "string", "format": "date-time"},
            "endTime": {"type": "string", "format": "date-time"},
            "message": {"type": "string", "maxLength": 1024},
            "progress": {
                "type": "object",
                "maxProperties": 32,
                "additionalProperties": {"type": "string", "maxLength": 64},
            },
            "conditions": {
                "type": "array",
                "maxItems": 16,
                "items": condition,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        },
    }


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


def files() -> Mapping[str, str]:
    """File name to text."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    head = "# Made by `python -m tracemend.trainer.operator.crds`.\n"
    return {
        name: head + yaml.dump(definition, Dumper=Plain, sort_keys=False, width=120)
        for name, definition in definitions().items()
    }


if __name__ == "__main__":
    main()
