"""What a service process is configured with: a section per concern, and one class per service.

Read by `program_configuration` from a YAML file and the environment (`TRACEMEND_` and the key in capitals: `http.port`
is TRACEMEND_HTTP_PORT; the environment wins), handed to `programs.<service>.main`, and described by docs/settings.md,
which is made from these classes. Everything about a run (models, judges, arms) stands in its plan and not here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tracemend.kit.prices import Price
from tracemend.kit.secrets import Secret
from tracemend.kit.settings import Section
from tracemend.runtime.rpc.settings import RpcSettings


class HttpSettings(Section):
    """The port for probes and scrapes: /healthz, /readyz and /metrics."""

    host: str = "0.0.0.0"
    port: int = Field(9090, ge=0, le=65535)
    """0 takes a free one, which the log names."""


class LogSettings(Section):
    """Log lines on standard error."""

    format: Literal["auto", "json", "plain"] = "auto"
    """`auto` writes JSON unless standard error is a terminal."""
    level: Literal["debug", "info", "warning", "error"] = "info"


class TraceSettings(Section):
    """OpenTelemetry traces; they are exported where OTEL_EXPORTER_OTLP_ENDPOINT says."""

    share: float = Field(0.05, ge=0, le=1)
    """Share of traces that are kept, chosen by trace id, so that all services keep the same; spans that failed are
    kept always."""


class DependencySettings(Section):
    """How long what the service needs may be away."""

    check_every_s: float = Field(5.0, gt=0)
    timeout_s: float = Field(5.0, gt=0)
    """For one check."""
    start_within_s: float = Field(120.0, gt=0)
    """Give up starting (exit code 3) when something does not answer for so long."""
    lost_after_s: float = Field(900.0, gt=0)
    """End the process (exit code 3) when something that answered has been away for so long."""


class StopSettings(Section):
    """What happens on SIGTERM. The whole must fit into the grace period of whoever sends it."""

    finish_within_s: float = Field(25.0, ge=0)
    """For work in flight to end; what has not is given back and done again elsewhere (exit code 4)."""
    close_within_s: float = Field(5.0, ge=0)
    """For connections to close, after that."""


class WatchdogSettings(Section):
    """The event loop's own watchdog."""

    stalled_after_s: float = Field(2.0, gt=0)
    """A loop that is blocked for longer is counted, and where it stands is logged."""
    dead_after_s: float = Field(120.0, gt=0)
    """/healthz fails when the loop has been blocked for longer."""


class ProcessSettings(Section):
    """What every process that serves needs, whatever it serves."""

    service: ClassVar[str] = ""

    ledger: Secret
    """`postgresql://…` or `sqlite:FILE`: the ledger, and what the services keep beside it."""
    name: str = ""
    """Of this process, as attempts and logs call it; unset for service, host and process id."""
    http: HttpSettings = Field(default_factory=HttpSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    traces: TraceSettings = Field(default_factory=TraceSettings)
    dependencies: DependencySettings = Field(default_factory=DependencySettings)
    stop: StopSettings = Field(default_factory=StopSettings)
    watchdog: WatchdogSettings = Field(default_factory=WatchdogSettings)

    @property
    def process_name(self) -> str:
        """What this process is called."""
        return self.name or f"{self.service}-{socket.gethostname()}-{os.getpid()}"


class ProgramSettings(ProcessSettings):
    """What the six services need as well."""

    bus: str
    """`kafka:HOST:PORT[,…][?namespace=NAME]`; secrets and TLS come from the KAFKA_ variables."""
    store: str
    """`s3:BUCKET[/PREFIX][?endpoint=URL&region=R]`, with keys from the S3_ variables, or `file:FOLDER`."""
    folder: Path = Path("/var/lib/tracemend")
    """Scratch space: models and checkpoints on their way, claimed messages. Nothing in it needs a backup."""
    concurrency: int = Field(256, ge=1)
    """Pieces of work in flight per stage."""
    cache_mib: int = Field(64, ge=1)
    """Results kept in memory: joins and repeats ask for what has just been written."""
    prices: dict[str, Price] = Field(default_factory=dict)
    """Price table: a model's name in run files (`target` for the target, `default` for all others) to what it costs."""
    rpc: RpcSettings = Field(default_factory=RpcSettings)


class IngestionSettings(ProgramSettings):
    """Ingestion: the door for runs and prompts; seals intakes, and feeds the loop."""

    service: ClassVar[str] = "ingestion"

    coordinates: bool = True
    """Whether this process offers to seal intakes and to feed runs; of those that offer, one at a time does."""


class GeneratorSettings(ProgramSettings):
    """Generator: samples from one served target."""

    service: ClassVar[str] = "generator"

    target: str = Field(min_length=1)
    """Name of the served target whose requests it works."""


class JudgeSettings(ProgramSettings):
    """Judge: a verdict for every trajectory."""

    service: ClassVar[str] = "judge"


class CorrectorSettings(ProgramSettings):
    """Corrector: decides on units, and has teachers write."""

    service: ClassVar[str] = "corrector"


class PodSettings(Section):
    """Jobs on Kubernetes: what is written into the TrainingRuns and EvaluationRuns that the operator runs."""

    namespace: str = ""
    """Where they are created: that of the operator."""
    gpus: int = Field(0, ge=0)
    """GPUs of each pod."""
    nodes: int = Field(1, ge=1, le=64)
    """Pods that share a training's processes (`train.num_processes`, a multiple of it); their folder is one volume."""
    queue: str = ""
    """Kueue's local queue; unset starts jobs without one."""
    priority_class: str = ""
    max_failures: int = Field(6, ge=1)
    """Attempts that may fail before the job has; disruptions do not count."""
    keep_s: int = Field(86400, ge=0)
    """How long resources of ended jobs stay."""


class JobSettings(ProgramSettings):
    """What the services share that run jobs."""

    processes: int = Field(1, ge=1)
    """Processes of one job, under torchrun where there are several."""
    jobs: int = Field(1, ge=1)
    """Jobs at once."""
    jobs_on: Literal["processes", "kubernetes"] = "processes"
    """Whether jobs are processes of this machine, or pods that the operator runs."""
    pods: PodSettings = Field(default_factory=PodSettings)

    @model_validator(mode="after")
    def _pods_have_a_place(self) -> JobSettings:
        if self.jobs_on == "kubernetes" and not self.pods.namespace:
            raise ValueError("jobs_on: kubernetes needs pods.namespace, the operator's")
        return self


class TrainerSettings(JobSettings):
    """Trainer: trains arms."""

    service: ClassVar[str] = "trainer"


class EvaluatorSettings(JobSettings):
    """Evaluator: measures arms and writes reports."""

    service: ClassVar[str] = "evaluator"


class JobPodSettings(ProcessSettings):
    """The process in a job's pod: what the pod template tells it."""

    service: ClassVar[str] = "job"

    store: str
    folder: Path = Path("/var/lib/tracemend")
    cache: Path | None = None
    """For base models and what else can be made again; in `folder` where unset."""


class OperatorSettings(ProcessSettings):
    """Operator: turns TrainingRuns and EvaluationRuns of one namespace into Kubernetes Jobs."""

    service: ClassVar[str] = "operator"

    namespace: str = Field(min_length=1)
    """Whose runs it works on. One operator per namespace."""
    template: str = "tracemend-job"
    """The PodTemplate there that jobs are made from."""
    resync_s: float = Field(30.0, gt=0)
    """How often every run is looked at, whatever events say."""
    gpu_resource: str = "nvidia.com/gpu"
    """What `gpusPerNode` asks for: another vendor's, or a profile of shared GPUs."""
    gpu_pool: Literal["dedicated", "shared"] = "dedicated"
    """`shared`: while a run is at work, what is labelled `tracemend.dev/gpu-pool: shared` is scaled to nothing."""


SERVICES: Mapping[str, type[ProcessSettings]] = MappingProxyType(
    {
        one.service: one
        for one in (
            IngestionSettings,
            GeneratorSettings,
            JudgeSettings,
            CorrectorSettings,
            TrainerSettings,
            EvaluatorSettings,
            OperatorSettings,
        )
    }
)
"""Every service by its name, with its settings."""
