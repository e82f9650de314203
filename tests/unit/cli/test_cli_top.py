"""`tracemend top`: what it counts, what it shows at any width, and what it says of what does not answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.ingestion_server import ingestion

from tracemend.cli.__main__ import main
from tracemend.cli.figures import Figures, Look, figures
from tracemend.cli.scraping import Scrape, deployed, read_exposition
from tracemend.cli.top import drawn
from tracemend.kit import telemetry as catalogue
from tracemend.kit.bus_ports import Backlog
from tracemend.kit.errors import Retry
from tracemend.runtime.program_http import Answer, ProbeServer
from tracemend.runtime.telemetry import ServiceTelemetry

GPUS = (
    'DCGM_FI_PROF_GR_ENGINE_ACTIVE{Hostname="node",gpu="0",pod="generator-1"} 0.93\n'
    'DCGM_FI_DEV_FB_USED{Hostname="node",gpu="0",pod="generator-1"} 40960\n'
    'vllm:num_requests_running{model_name="guard"} 7\n'
    'vllm:num_requests_waiting{model_name="guard"} 3\n'
    'vllm:kv_cache_usage_perc{model_name="guard"} 0.5\n'
)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TO", "BUS", "METRICS", "NAMESPACE"):
        monkeypatch.delenv(f"TRACEMEND_{name}", raising=False)


def telemetry(service: str = "judge", *, done: int = 0) -> ServiceTelemetry:
    made = ServiceTelemetry()
    made.gauge(catalogue.BUILD_INFO, 1, version="1", service=service)
    made.gauge(catalogue.READY, 1)
    for _ in range(done):
        made.item("judge", "done", seconds=1.0)
    return made


def scrape(of: str, made: ServiceTelemetry, *, more: str = "") -> Scrape:
    return Scrape(of, read_exposition(made.exposition()[0].decode() + more))


def backlog(topic: str = "tracemend.trajectories.v1", *, items: int = 0, oldest_s: float = 0.0) -> Backlog:
    return Backlog(group="judge", topic=topic, num_items=items, oldest_s=oldest_s, num_members=2)


def shown(found: Figures, width: int) -> str:
    console = Console(width=width, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(drawn(found, width=width))
    return captured.get()


def test_rates_are_taken_over_the_time_between_two_looks_and_survive_a_restart() -> None:
    before = Look(at_s=10.0, scrapes=[scrape("a", telemetry(done=30)), scrape("b", telemetry(done=5))])
    now = Look(
        at_s=12.0,
        scrapes=[scrape("a", telemetry(done=50)), scrape("b", telemetry(done=4)), scrape("new", telemetry(done=99))],
        backlogs=[backlog(items=60, oldest_s=90.0), backlog("tracemend.trajectories.v1.retry", items=3)],
        wanted={"judge": 4, "generator": 1},
    )
    found = figures(before, now)
    (queue,) = found.queues
    assert (queue.num_waiting, queue.lag_s, queue.num_put_back, queue.num_members) == (60, 90.0, 3, 2)
    assert queue.per_s == 12.0  # 20 of one process and 4 of the one that began anew, in 2 s
    assert queue.left_s == 5.0
    generator, judge = found.services
    assert (judge.name, judge.num_ready, judge.num_processes, judge.num_wanted) == ("judge", 3, 3, 4)
    assert (generator.num_processes, generator.num_wanted) == (0, 1)


def test_where_the_bus_is_not_asked_services_tell_what_waits() -> None:
    made = telemetry("ingestion")
    made.gauge(catalogue.BACKLOG_ITEMS, 8, group="judge", topic="tracemend.trajectories.v1")
    made.gauge(catalogue.BACKLOG_SECONDS, 7.0, group="judge", topic="tracemend.trajectories.v1")
    made.gauge(catalogue.GROUP_MEMBERS, 2, group="judge", topic="tracemend.trajectories.v1")
    look = Look(at_s=1.0, scrapes=[scrape("a", made), scrape("b", made)])
    (queue,) = figures(look, look).queues
    assert (queue.num_waiting, queue.lag_s, queue.num_members, queue.left_s) == (8, 7.0, 2, None)


def test_engines_gpus_and_the_training_under_way_are_told() -> None:
    made = telemetry("trainer")
    made.gauge(catalogue.JOBS_RUNNING, 1, kind="run")
    for name, value in (
        (catalogue.TRAINING_STEP, 30),
        (catalogue.TRAINING_STEPS, 100),
        (catalogue.TRAINING_LOSS, 0.25),
        (catalogue.CHECKPOINT_AGE, 61.0),
    ):
        made.gauge(name, value)
    look = Look(at_s=1.0, scrapes=[scrape("a", made, more=GPUS)])
    found = figures(look, look)
    assert (found.gpus[0].busy, found.gpus[0].used_mib) == (0.93, 40960)
    assert (found.engines[0].model, found.engines[0].num_waiting, found.engines[0].kv_use) == ("vllm guard", 3, 0.5)
    text = shown(found, 140)
    assert "30/100" in text
    assert "1m 1s ago" in text
    assert "40.0 GiB" in text
    assert figures(look, Look(at_s=2.0, scrapes=[scrape("a", telemetry("trainer"))])).trainings == []


@pytest.mark.parametrize("width", [80, 140])
def test_tables_fit_the_terminal_and_keep_their_columns(width: int) -> None:
    long = [
        Backlog(group="generator-qwen2.5-7b-instruct", topic=f"tracemend.{stem}.qwen2.5-7b-instruct.v1",
                num_items=1_234_567, oldest_s=90_000.0, num_members=0)
        for stem in ("generations", "continuations")
    ]  # fmt: skip
    look = Look(at_s=1.0, backlogs=long, scrapes=[scrape("a", telemetry(), more=GPUS)])
    text = shown(figures(look, look), width)
    assert all(len(line) <= width for line in text.splitlines())
    for wanted in ("1,234,567", "1d 1h", "workers", "replicas", "KV use"):
        assert wanted in text
    assert ("topic" in text) == (width == 140)


@pytest.mark.parametrize("width", [80, 140])
def test_topics_of_one_group_are_told_apart(width: int) -> None:
    both = [backlog("tracemend.verdicts.v1"), backlog("tracemend.groups.v1")]
    text = shown(figures(Look(at_s=1.0, backlogs=both), Look(at_s=2.0, backlogs=both)), width)
    assert "verdicts" in text
    assert "groups" in text


class Pods:
    """`KubernetesPages` of a namespace with two pods, one of which serves no metrics."""

    def __init__(self, *, is_away: bool = False) -> None:
        self._is_away = is_away

    async def call(self, method: str, path: str, **_: Any) -> dict[str, Any] | None:
        if self._is_away:
            raise Retry("kubernetes_away")
        if path.endswith("/deployments"):
            wanted = [("judge", 3), ("generator", 1), ("generator", 2), ("kafka", 1)]
            labels = [{"app.kubernetes.io/component": component} for component, _ in wanted]
            specs = [{"replicas": number} for _, number in wanted]
            return {
                "items": [{"metadata": {"labels": its}, "spec": spec} for its, spec in zip(labels, specs, strict=True)]
            }
        if path.endswith("/trainingruns"):
            moving = {"phase": "Running", "attempt": 2, "progress": {"step": "30", "num_steps": "90"}}
            spec = {"run": "ipo-1", "arm": "ipo"}
            return {"items": [{"spec": spec, "status": moving}, {"spec": spec, "status": {"phase": "Succeeded"}}]}
        if path.endswith("/evaluationruns"):
            return None
        ports = [{"name": "grpc", "containerPort": 7443}, {"name": "http", "containerPort": 9090}]
        running = {"status": {"phase": "Running"}, "spec": {"containers": [{"ports": ports}]}}
        ended = {"status": {"phase": "Succeeded"}, "spec": {"containers": [{"ports": ports}]}}
        named = [("a", running), ("b", running), ("migrations", ended)]
        return {"items": [{"metadata": {"name": name}, **pod} for name, pod in named]}

    async def page(self, path: str) -> str:
        if "/pods/a:9090/proxy/metrics" in path:
            return telemetry().exposition()[0].decode()
        raise Retry("kubernetes_answers_503")

    async def aclose(self) -> None: ...


async def test_a_namespace_s_running_pods_are_scraped_through_the_api_server() -> None:
    found = await deployed(Pods(), "tm")
    assert found.wanted == {"judge": 3, "generator": 3}
    assert [(each.of, each.service, bool(each.trouble)) for each in found.scrapes] == [
        ("a", "judge", False),
        ("b", "", True),
    ]
    (job,) = found.jobs
    assert (job.kind, job.run, job.phase, job.attempt, job.step) == ("TrainingRun", "ipo-1", "Running", 2, "30/90")
    look = Look(at_s=1.0, resources=found.jobs)
    assert "30/90" in shown(figures(look, look), 80)
    away = await deployed(Pods(is_away=True), "tm")
    assert [each.trouble for each in away.scrapes] == ["kubernetes_away"]


@contextmanager
def serving(made: ServiceTelemetry) -> Iterator[str]:
    def metrics() -> Answer:
        content, kind = made.exposition()
        return Answer(status=HTTPStatus.OK, content=content, content_type=kind)

    server = ProbeServer({"/metrics": metrics}, host="127.0.0.1", port=0)
    try:
        yield f"http://127.0.0.1:{server.port}/metrics"
    finally:
        server.close()


def command(*arguments: str) -> int:
    try:
        main(["top", *arguments, "--every", "0.2"])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_one_look_as_a_table_and_as_json_names_what_does_not_answer(capsys: Any) -> None:
    with serving(telemetry(done=3)) as url:
        asked = ["--metrics", url, "--metrics", "http://127.0.0.1:9/metrics", "--once"]
        assert command(*asked) == 0
        text = capsys.readouterr().out
        assert "judge" in text
        assert "1/1 ready" in text
        assert "http://127.0.0.1:9/metrics: " in text
        assert command(*asked, "--json") == 0
        told: Mapping[str, Any] = json.loads(capsys.readouterr().out)
    assert told["services"][0]["name"] == "judge"
    assert len(told["troubles"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "there is nothing to look at"),
        (["--metrics", "file:///etc/hostname"], "no URL of metrics"),
        (["--bus", "kafka:nowhere"], "HOST:PORT"),
        (["--bus", "kafka:127.0.0.1:9"], "127.0.0.1:9"),
    ],
)
def test_what_the_user_must_change_is_said_with_exit_code_2(arguments: list[str], words: str, capsys: Any) -> None:
    assert command(*arguments, "--once") == 2
    assert words in capsys.readouterr().err


async def test_runs_that_move_are_listed_and_a_cluster_out_of_reach_is_named(tmp_path: Path, capsys: Any) -> None:
    async with ingestion(tmp_path) as served:
        assert await asyncio.to_thread(command, "--to", served.address, "--once", "--json") == 0
        assert json.loads(capsys.readouterr().out)["runs"] == []
    assert await asyncio.to_thread(command, "--to", "127.0.0.1:9", "--once", "--json") == 0
    assert "out of reach" in json.loads(capsys.readouterr().out)["troubles"][0]
