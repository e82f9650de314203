"""What `top` shows, worked out from two looks at a cluster: rates are differences over the time between them.

Pure: `top` looks and draws, this counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tracemend.cli.scraping import JobResource, Sample, Scrape
from tracemend.client import RunStatus
from tracemend.kit.bus_ports import Backlog

_RETRY = ".retry"
Counters = Mapping[tuple[str, str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A cluster at one moment, as far as it could be seen."""

    at_s: float
    """On a clock that only goes forward."""
    scrapes: Sequence[Scrape] = ()
    wanted: Mapping[str, int] = field(default_factory=dict)
    resources: Sequence[JobResource] = ()
    backlogs: Sequence[Backlog] | None = None
    """None where the bus was not asked."""
    runs: Sequence[RunStatus] = ()
    troubles: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What waits for a group on a topic."""

    group: str
    topic: str
    num_waiting: int
    lag_s: float
    """Seconds since the oldest of them was written."""
    num_put_back: int
    """Waiting to be tried again."""
    num_members: int
    per_s: float
    """Finished each second, over all topics of the group."""
    left_s: float | None
    """At that rate; None where nothing is finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The processes of one service."""

    name: str
    num_ready: int
    num_processes: int
    num_wanted: int | None
    """What its Deployment is to have; None where no Kubernetes was asked."""
    num_in_flight: int
    per_s: float
    num_dead: int
    """Given up since the processes began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One model, over the processes that serve it."""

    model: str
    num_requests: int
    num_waiting: int
    tokens_per_s: float
    busy: float
    """Seconds of engine time per second."""
    kv_use: float | None
    """Share of the KV cache in use; None where the engine does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU."""

    host: str
    gpu: str
    pod: str
    busy: float
    used_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The training under way."""

    step: int
    num_steps: int
    loss: float
    checkpoint_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All of it."""

    queues: Sequence[Queue]
    services: Sequence[Service]
    engines: Sequence[Engine]
    gpus: Sequence[Gpu]
    trainings: Sequence[Training]
    jobs: Mapping[str, int]
    """Kind of job to how many are under way."""
    resources: Sequence[JobResource]
    runs: Sequence[RunStatus]
    troubles: Sequence[str]


def figures(before: Look, now: Look) -> Figures:
    """What is to be shown."""
    elapsed_s = max(now.at_s - before.at_s, 1e-6)
    rates = _rates(before.scrapes, now.scrapes, elapsed_s)
    samples = [sample for scrape in now.scrapes for sample in scrape.samples]
    away = [f"{scrape.of}: {scrape.trouble}" for scrape in now.scrapes if scrape.trouble]
    running = {kind: int(number) for kind, number in _greatest(samples, "tracemend_jobs_running", "kind").items()}
    return Figures(
        queues=_queues(now, samples, rates),
        services=_services(now, rates),
        engines=_engines(samples, rates),
        gpus=_gpus(samples),
        trainings=_trainings(samples) if any(running.values()) else [],
        jobs={kind: number for kind, number in running.items() if number},
        resources=now.resources,
        runs=now.runs,
        troubles=[*now.troubles, *away],
    )


# ------------------------------------------------------------------------------------------ counting


def _rates(before: Sequence[Scrape], now: Sequence[Scrape], elapsed_s: float) -> Counters:
    """Each counter's rate per second. One that fell began anew with its process."""
    known = _counters(before)
    return {
        key: (value - known[key] if value >= known[key] else value) / elapsed_s
        for key, value in _counters(now).items()
        if key in known
    }


def _counters(scrapes: Sequence[Scrape]) -> Counters:
    return {
        (scrape.of, sample.name, frozenset(sample.labels.items())): sample.value
        for scrape in scrapes
        for sample in scrape.samples
        if sample.name.endswith("_total")
    }


def _rate_by(rates: Counters, name: str, label: str, **having: Sequence[str]) -> dict[str, float]:
    """The rates of a counter, summed by `label`, where the labels in `having` have one of these values."""
    sums: defaultdict[str, float] = defaultdict(float)
    for (_, its_name, its_labels), rate in rates.items():
        labels = dict(its_labels)
        if its_name == name and all(labels.get(key) in values for key, values in having.items()):
            sums[labels.get(label, "")] += rate
    return sums


def _sum_by(samples: Iterable[Sample], name: str, label: str) -> dict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    for sample in samples:
        if sample.name == name:
            sums[sample.labels.get(label, "")] += sample.value
    return sums


def _greatest(samples: Iterable[Sample], name: str, label: str = "") -> dict[str, float]:
    """By `label`: replicas that measure the same thing each tell it."""
    most: dict[str, float] = {}
    for sample in samples:
        if sample.name == name:
            its = sample.labels.get(label, "")
            most[its] = max(most.get(its, sample.value), sample.value)
    return most


# ------------------------------------------------------------------------------------------ the parts


def _queues(now: Look, samples: Sequence[Sample], rates: Counters) -> list[Queue]:
    backlogs = now.backlogs if now.backlogs is not None else _told_backlogs(samples)
    put_back = {(one.group, one.topic.removesuffix(_RETRY)): one for one in backlogs if one.topic.endswith(_RETRY)}
    done = _rate_by(rates, "tracemend_items_total", "stage", outcome=("done", "replayed", "dead"))
    queues = []
    for one in backlogs:
        if one.topic.endswith(_RETRY):
            continue
        aside, per_s = put_back.get((one.group, one.topic)), done.get(one.group, 0.0)
        queues.append(
            Queue(
                group=one.group,
                topic=one.topic,
                num_waiting=one.num_items,
                lag_s=one.oldest_s,
                num_put_back=aside.num_items if aside is not None else 0,
                num_members=one.num_members,
                per_s=per_s,
                left_s=one.num_items / per_s if per_s and one.num_items else None,
            )
        )
    return queues


def _told_backlogs(samples: Sequence[Sample]) -> list[Backlog]:
    """What a service tells of the bus, where it is not asked."""
    told: defaultdict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for sample in samples:
        if sample.name in ("tracemend_backlog_items", "tracemend_backlog_seconds", "tracemend_group_members"):
            its = told[sample.labels["group"], sample.labels["topic"]]
            its[sample.name] = max(its.get(sample.name, 0.0), sample.value)
    return [
        Backlog(
            group=group,
            topic=topic,
            num_items=int(its.get("tracemend_backlog_items", 0)),
            oldest_s=its.get("tracemend_backlog_seconds", 0.0),
            num_members=int(its.get("tracemend_group_members", 0)),
        )
        for (group, topic), its in sorted(told.items())
    ]


def _services(now: Look, rates: Counters) -> list[Service]:
    by_name: defaultdict[str, list[Scrape]] = defaultdict(list)
    for scrape in now.scrapes:
        if scrape.service:
            by_name[scrape.service].append(scrape)
    done = defaultdict[str, float](float)
    for (of, name, labels), rate in rates.items():
        if name == "tracemend_items_total" and dict(labels).get("outcome") in ("done", "replayed"):
            done[of] += rate
    return [
        Service(
            name=name,
            num_ready=sum(sample.value > 0 for scrape in its for sample in scrape.of_name("tracemend_ready")),
            num_processes=len(its),
            num_wanted=now.wanted.get(name),
            num_in_flight=int(sum(s.value for scrape in its for s in scrape.of_name("tracemend_inflight_items"))),
            per_s=sum(done[scrape.of] for scrape in its),
            num_dead=int(sum(s.value for scrape in its for s in scrape.of_name("tracemend_dlq_total"))),
        )
        for name in sorted(by_name.keys() | now.wanted.keys())
        for its in [by_name[name]]
    ]


def _engines(samples: Sequence[Sample], rates: Counters) -> list[Engine]:
    requests = _sum_by(samples, "tracemend_engine_requests", "model")
    tokens = _rate_by(rates, "tracemend_tokens_total", "model", kind=("new",))
    busy = _rate_by(rates, "tracemend_engine_seconds_total", "model")
    ours = [
        Engine(
            model=model,
            num_requests=int(number),
            num_waiting=0,
            tokens_per_s=tokens.get(model, 0.0),
            busy=busy.get(model, 0.0),
            kv_use=None,
        )
        for model, number in sorted(requests.items())
    ]
    running = _sum_by(samples, "vllm:num_requests_running", "model_name")
    waiting = _sum_by(samples, "vllm:num_requests_waiting", "model_name")
    kv_use = _greatest(samples, "vllm:kv_cache_usage_perc", "model_name")
    generated = _rate_by(rates, "vllm:generation_tokens_total", "model_name")
    return ours + [
        Engine(
            model=f"vllm {model}",
            num_requests=int(number),
            num_waiting=int(waiting.get(model, 0)),
            tokens_per_s=generated.get(model, 0.0),
            busy=float(number > 0),
            kv_use=kv_use.get(model),
        )
        for model, number in sorted(running.items())
    ]


def _gpus(samples: Sequence[Sample]) -> list[Gpu]:
    used = {_place(s): s.value for s in samples if s.name == "DCGM_FI_DEV_FB_USED"}
    busy = [s for s in samples if s.name == "DCGM_FI_PROF_GR_ENGINE_ACTIVE"]
    return [
        Gpu(
            host=s.labels.get("Hostname", ""),
            gpu=s.labels.get("gpu", ""),
            pod=s.labels.get("pod") or s.labels.get("exported_pod", ""),
            busy=s.value,
            used_mib=used.get(_place(s), 0.0),
        )
        for s in sorted(busy, key=_place)
    ]


def _place(sample: Sample) -> tuple[str, str]:
    return sample.labels.get("Hostname", ""), sample.labels.get("gpu", "")


def _trainings(samples: Sequence[Sample]) -> list[Training]:
    def told(name: str) -> float:
        return _greatest(samples, f"tracemend_{name}").get("", 0.0)

    if not told("training_steps") or not told("checkpoint_age_seconds"):
        return []
    return [
        Training(
            step=int(told("training_step")),
            num_steps=int(told("training_steps")),
            loss=told("training_loss"),
            checkpoint_age_s=told("checkpoint_age_seconds"),
        )
    ]
