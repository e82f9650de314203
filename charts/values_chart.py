"""The values as a whole: servers outside, security, scaling, monitoring. See `values_model`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from values_model import (
    Free,
    Image,
    Images,
    Jobs,
    Model,
    ModelServer,
    Name,
    Operator,
    Section,
    Services,
    Target,
    resources,
)


class DevServer(Section):
    """A single server of the release's own, for trying things out: one copy of everything."""

    image: Image
    size: str = "10Gi"
    storageClassName: str = ""
    resources: Free = resources("100m", "512Mi", "2Gi")


class Strimzi(Section):
    """Kafka by Strimzi's operator, which must be installed."""

    version: str = "4.3.0"
    replicas: int = Field(3, ge=1)
    size: str = "100Gi"
    storageClassName: str = ""
    resources: Free = resources("1", "4Gi", "8Gi")


class Kafka(Section):
    """The bus."""

    mode: Literal["external", "strimzi", "dev"] = "external"
    bootstrapServers: str = ""
    """HOST:PORT[,HOST:PORT…] where the mode is external."""
    namespace: str = ""
    """Prefix of topic and group names, where several releases share a Kafka."""
    replication: int = Field(3, ge=1)
    minIsr: int = Field(2, ge=1)
    securityProtocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "SASL_SSL"
    saslMechanism: str = "SCRAM-SHA-512"
    existingSecret: Name = ""
    """With `username` and `password`, where the protocol asks for them."""
    caSecret: Name = ""
    """With `ca.crt`, where the system does not know the authority."""
    cidrs: list[str] = []
    """Where an external Kafka is, for network policies; empty: anywhere, on its port."""
    strimzi: Strimzi = Strimzi()
    dev: DevServer = DevServer(image=Image(registry="docker.io", repository="apache/kafka", tag="4.3.1"))


class Store(Section):
    """The object store."""

    mode: Literal["external", "dev"] = "external"
    bucket: str = "tracemend"
    prefix: str = ""
    endpoint: str = ""
    """URL of an external store."""
    region: str = "us-east-1"
    existingSecret: Name = ""
    """With `access-key` and `secret-key`; in dev mode these become MinIO's own."""
    caSecret: Name = ""
    cidrs: list[str] = []
    dev: DevServer = DevServer(image=Image(repository="tracemend/minio", tag="2026-02-12"))
    """MinIO from docker/minio.Dockerfile."""


class PostgreSql(Section):
    """The ledger."""

    mode: Literal["external", "dev"] = "external"
    existingSecret: Name = ""
    """With `url` (postgresql://…), and `password` in dev mode."""
    port: int = 5432
    cidrs: list[str] = []
    dev: DevServer = DevServer(image=Image(registry="docker.io", repository="library/postgres", tag="17-bookworm"))
    """Debian's variant: Alpine's does not start as a user that it has no name for."""


class Rpc(Section):
    """The door. Without TLS and without a way to know callers, it lets nobody in."""

    tlsSecret: Name = ""
    """With `tls.crt`, `tls.key` and `ca.crt` (cert-manager's layout). Empty: plaintext, for a mesh that encrypts."""
    tokensSecret: Name = ""
    """With `tokens.yaml`: development tokens."""
    pageKeySecret: Name = ""
    """With `key`: what page tokens are signed with."""
    serviceType: Literal["ClusterIP", "LoadBalancer", "NodePort"] = "ClusterIP"
    """Of ingestion's front door."""


class Gpu(Section):
    """GPUs, wherever something asks for some."""

    resource: str = "nvidia.com/gpu"
    pool: Literal["dedicated", "shared"] = "dedicated"
    """`shared`: while a training or an evaluation is at work, the operator holds generators and model servers back."""
    nodeSelector: dict[str, str] = {}
    tolerations: list[Free] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    runtimeClassName: str = ""


class Autoscaling(Section):
    """Generator, judge and corrector by Kafka lag, from none to `maxReplicas`. Needs KEDA."""

    enabled: bool = False
    pollingSeconds: int = Field(15, ge=1)
    cooldownSeconds: int = Field(300, ge=0)
    """Without lag, before the last replica goes."""
    scaleDownWindowSeconds: int = Field(600, ge=0)
    """Replicas go one by one, each after so long with less work."""
    kafkaVersion: str = "2.8.0"
    """Of the protocol; KEDA's default is one that brokers of today refuse."""


class Egress(Section):
    """An endpoint outside that services may call."""

    name: str = Field(pattern="^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")
    components: list[Literal["judge", "corrector", "generator", "evaluator", "trainer", "job", "ingestion", "operator"]]
    cidrs: list[str]
    ports: list[int] = [443]


class NetworkPolicy(Section):
    """Nothing in, nothing out, but what is named."""

    enabled: bool = True
    clients: list[Free] = []
    """Peers (of NetworkPolicy) that may call the door, beside the release's own pods."""
    scrapers: list[Free] = []
    """Peers that may read metrics."""
    telemetry: list[Free] = []
    """Peers that take traces, on 4317 and 4318."""
    egress: list[Egress] = []


class Switch(Section):
    """An object of the monitoring stack, and the labels by which that stack finds it."""

    enabled: bool = False
    labels: dict[str, str] = {}


class Monitoring(Section):
    """For Prometheus' operator and Grafana's sidecar."""

    podMonitor: Switch = Switch()
    rules: Switch = Switch()
    dashboards: Switch = Switch(labels={"grafana_dashboard": "1"})
    runbook: str = "https://github.com/tracemend/tracemend/blob/main/docs/runbook.md"
    """Where the alerts' runbook links lead."""


class Tests(Section):
    """`helm test`: a batch of scripted prompts through everything."""

    prompts: int = Field(20, ge=1)
    seconds: int = Field(600, ge=10)
    tokenSecret: Name = ""
    """With `token`, where the door asks for one."""


class CustomResources(Section):
    """The definitions of TrainingRun and EvaluationRun."""

    install: bool = True
    """They stay when the release goes, or all resources would go with them."""


class Values(Section):
    """Everything."""

    nameOverride: str = ""
    fullnameOverride: str = ""
    commonLabels: dict[str, str] = {}
    imageRegistry: str = ""
    """In place of every image's registry, those of tests and dev servers included."""
    imagePullPolicy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    imagePullSecrets: list[Name] = []
    images: Images = Images()
    targets: list[Target] = []
    """Empty: no generator runs, and runs are refused."""
    settings: Free = {}
    """Of every service (docs/settings.md); what follows from other values is filled in."""
    services: Services = Services()
    operator: Operator = Operator()
    jobs: Jobs = Jobs()
    models: list[Model] = []
    modelServers: list[ModelServer] = []
    kafka: Kafka = Kafka()
    store: Store = Store()
    postgresql: PostgreSql = PostgreSql()
    rpc: Rpc = Rpc()
    gpu: Gpu = Gpu()
    autoscaling: Autoscaling = Autoscaling()
    networkPolicy: NetworkPolicy = NetworkPolicy()
    podDisruptionBudgets: bool = True
    monitoring: Monitoring = Monitoring()
    crds: CustomResources = CustomResources()
    tests: Tests = Tests()
    unsafeDev: bool = False
    """Says that this is for trying things out: dev servers and a door without TLS are refused otherwise."""
    global_: dict[str, Any] = Field({}, alias="global")
    """Helm's own; not read."""
