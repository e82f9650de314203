"""What the chart may be told: the one source of values.yaml, its schema and its table (`charts/generate.py`).

Nothing of a service's own settings is repeated here: `settings` goes to it as its configuration file, whose keys
docs/settings.md lists and which the service itself checks. Secrets are never values; they are named.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = str
Free = dict[str, Any]
"""A part of a Kubernetes object, given on as it is."""
Size = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?([kMGT]|[KMGT]i)?$")]
"""Bytes, as Kubernetes writes them."""


class Section(BaseModel):
    """A part of the values; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Image(Section):
    """Where an image comes from; a digest wins over a tag."""

    registry: str = ""
    repository: str
    tag: str = ""
    """Empty: the chart's appVersion."""
    digest: str = Field("", pattern="^(sha256:[0-9a-f]{64})?$")


class Images(Section):
    """The images that `make images` builds."""

    services: Image = Image(repository="tracemend")
    """Ingestion, judge, corrector, operator, and what sets up: no torch in it."""
    gpu: Image = Image(repository="tracemend-gpu")
    """Generator, trainer, evaluator, jobs and model servers."""


class Placement(Section):
    """Where pods go."""

    nodeSelector: dict[str, str] = {}
    tolerations: list[Free] = []
    affinity: Free = {}
    """Empty: replicas of services and model servers prefer different hosts."""
    runtimeClassName: str = ""
    schedulerName: str = ""
    priorityClassName: str = ""


class Pods(Placement):
    """What all kinds of pods have."""

    resources: Free = {}
    env: dict[str, str] = {}
    """Plain environment variables."""
    envFrom: list[Free] = []
    """Secrets and ConfigMaps as variables: the keys of endpoints that run files name."""
    volumes: list[Free] = []
    volumeMounts: list[Free] = []
    podAnnotations: dict[str, str] = {}
    scratchSize: Size = "10Gi"
    """Most that a scratch volume takes; a pod that writes more is evicted."""


def resources(cpu: str, memory: str, limit: str) -> Free:
    """Requests and limits; CPU is not limited, or idle cores would stay idle."""
    return {"requests": {"cpu": cpu, "memory": memory, "ephemeral-storage": "1Gi"}, "limits": {"memory": limit}}


class Service(Pods):
    """One of the six services."""

    replicas: int = Field(1, ge=0)
    """Ignored where autoscaling owns it."""
    settings: Free = {}
    """Of this service alone, on top of the common ones."""
    drainSeconds: int = Field(25, ge=0)
    """For work in flight to end after SIGTERM; the grace period follows from it."""
    startSeconds: int = Field(120, ge=10)
    """For a pod to come up before it is started anew, model loading included."""
    minReplicas: int = Field(0, ge=0)
    maxReplicas: int = Field(8, ge=1)
    lagPerReplica: int = Field(200, ge=1)
    """Waiting messages that one more replica is for."""
    ledgerSecret: Name = ""
    """Another Secret than `postgresql.existingSecret`, for an identity of the service's own; likewise the next two."""
    storeSecret: Name = ""
    kafkaSecret: Name = ""

    @model_validator(mode="after")
    def _in_order(self) -> Service:
        if self.minReplicas > self.maxReplicas:
            raise ValueError("minReplicas is above maxReplicas")
        return self


class Services(Section):
    """The six services."""

    ingestion: Service = Service(resources=resources("200m", "256Mi", "1Gi"), replicas=2)
    generator: Service = Service(
        resources=resources("2", "16Gi", "64Gi"),
        drainSeconds=120,
        startSeconds=1800,
        maxReplicas=16,
        scratchSize="20Gi",
    )
    """Of every target; GPUs stand at the target."""
    judge: Service = Service(resources=resources("200m", "256Mi", "1Gi"))
    corrector: Service = Service(resources=resources("200m", "256Mi", "1Gi"))
    trainer: Service = Service(resources=resources("200m", "512Mi", "2Gi"), scratchSize="100Gi")
    evaluator: Service = Service(resources=resources("200m", "512Mi", "2Gi"), scratchSize="100Gi")


class Target(Section):
    """A served model: its generators and its topics."""

    name: str = Field(pattern="^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")
    """What run files call it: the last part of `target.model`'s path, or `target.served_as`."""
    replicas: int = Field(1, ge=0)
    """Ignored where autoscaling owns it."""
    gpus: int = Field(0, ge=0)
    """Of each generator."""
    shm: str = ""
    """Size of a memory-backed /dev/shm, for tensor parallelism."""
    resources: Free = {}
    """On top of `services.generator.resources`."""


class Operator(Pods):
    """The operator of TrainingRuns and EvaluationRuns."""

    enabled: bool = True
    """Without it, trainer and evaluator run jobs in their own pods, on scratch volumes that must hold checkpoints."""
    settings: Free = {}
    resources: Free = resources("50m", "128Mi", "512Mi")


class Jobs(Pods):
    """The pods of trainings and evaluations: the PodTemplate that the operator makes them from."""

    image: Literal["services", "gpu"] = "gpu"
    gpus: int = Field(0, ge=0)
    """Of each pod; a TrainingRun may ask for others."""
    nodes: int = Field(1, ge=1, le=64)
    queue: str = ""
    """Kueue's local queue."""
    folderClaim: Name = ""
    """A ReadWriteMany claim for what jobs write: trainings on several nodes share it. Else scratch space."""
    folderSize: Size = "100Gi"
    """Of that scratch space."""
    scratchSize: Size = "20Gi"
    """Of /tmp."""
    shm: str = ""
    resources: Free = resources("2", "16Gi", "128Gi")


class Checksums(Section):
    """What the files of a model must be: lines of `sha256sum`, in a ConfigMap."""

    configMap: Name
    key: str = "SHA256SUMS"


class Hydration(Section):
    """A Job that fills a claim once, and checks what came."""

    enabled: bool = False
    image: str = ""
    """With what `command` needs; by digest."""
    command: list[str] = []
    """Writes the model's files to /weights."""
    envFrom: list[Free] = []
    checksums: Checksums | None = None
    scratchSize: Size = "100Gi"
    """Of /tmp, where what fetches may keep what it has so far."""


class Model(Section):
    """A model's weights, mounted where run files name them. One of `claim` and `image`."""

    name: str = Field(pattern="^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")
    path: str
    """Where it is mounted, read-only."""
    claim: Name = ""
    """An existing PersistentVolumeClaim."""
    image: str = ""
    """An OCI image that holds nothing but the files, by digest (image volumes: Kubernetes 1.35 and newer)."""
    hydrate: Hydration = Hydration()

    @model_validator(mode="after")
    def _from_one_place(self) -> Model:
        if bool(self.claim) == bool(self.image):
            raise ValueError("give one of claim and image")
        return self


class ModelServer(Pods):
    """A guard or a teacher as a vLLM server of the release's own: http://RELEASE-model-NAME:8000/v1."""

    name: str = Field(pattern="^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$")
    model: str
    """Folder of the weights, as `models` mounts them."""
    replicas: int = Field(1, ge=0)
    gpus: int = Field(1, ge=0)
    args: list[str] = []
    """More of `vllm serve`."""
    shm: str = "2Gi"
    scratchSize: Size = "20Gi"
    startSeconds: int = Field(1800, ge=10)
    resources: Free = resources("2", "16Gi", "64Gi")
