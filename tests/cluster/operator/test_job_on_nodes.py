"""A training on two nodes: the pods of an Indexed Job as processes of this machine, with the environment that the
operator gives them and the index that Kubernetes adds. Only the first node's name is another: there is no DNS."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.spine import free_port
from tests.cluster.test_whole_path import ARM, trained_run

from tracemend.embedded.phases import results_of
from tracemend.embedded.pipeline import run_id, run_pipeline
from tracemend.embedded.plan import resolve
from tracemend.embedded.progress import Silent
from tracemend.embedded.runfile import RunFile
from tracemend.embedded.workspace import connect_workspace
from tracemend.kit.server_ports import RunRecord
from tracemend.records import Checkpoint
from tracemend.runtime.opening import open_server_tables
from tracemend.trainer.operator.manifests import job_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KEY = "job_on_nodes"


@dataclass
class Nodes:
    """The pods of attempts at one job, whose scratch space is one folder."""

    folder: Path
    run: str
    attempt: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> list[subprocess.Popen[bytes]]:
        """The pods of a new attempt, the first node's last."""
        self.attempt += 1
        rendezvous = f"127.0.0.1:{free_port()}"
        pods = [self._pod(index, rendezvous) for index in (1, 0)]
        self.processes += pods
        return pods[::-1]

    def end(self, pods: list[subprocess.Popen[bytes]], *, within_s: float = 600) -> list[int]:
        """Exit codes, once all have ended; all are killed when one fails, as the Job's policy has it."""
        ends_at = time.monotonic() + within_s
        while any(pod.poll() is None for pod in pods) and time.monotonic() < ends_at:
            if any(pod.poll() for pod in pods):
                time.sleep(5)
                for pod in pods:
                    pod.kill()
            time.sleep(0.1)
        return [pod.wait(timeout=1) for pod in pods]

    @property
    def training(self) -> Path:
        return self.folder / "pods" / "jobs" / self.run / "checkpoints" / ARM

    def logs(self) -> str:
        files = [*sorted(self.folder.glob("*.log")), self.training / "job.log"]
        return "\n".join(f"--- {file.name}\n{file.read_text()[-3000:]}" for file in files if file.exists())

    def _pod(self, index: int, rendezvous: str) -> subprocess.Popen[bytes]:
        about = {"name": "nodes", "namespace": "n", "uid": "u"}
        spec = {"run": self.run, "job": KEY, "nodes": 2}
        resource = {"kind": "TrainingRun", "metadata": about, "spec": spec}
        made = job_of(resource, {"spec": {"containers": [{"name": "job"}]}}, self.attempt)
        container = made["spec"]["template"]["spec"]["containers"][0]
        told = {each["name"]: each["value"] for each in container["env"]}
        own = {
            "TRACEMEND_STORE": f"file:{self.folder / 'store'}",
            "TRACEMEND_LEDGER": f"sqlite:{self.folder / 'ledger.db'}",
            "TRACEMEND_FOLDER": str(self.folder / "pods"),
            "TRACEMEND_JOB_RENDEZVOUS": rendezvous,
            "JOB_COMPLETION_INDEX": str(index),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "GLOO_SOCKET_IFNAME": "lo",
        }
        with (self.folder / f"node-{index}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tracemend.programs.job_pod"],
                env={**os.environ, **told, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def checkpoint(self) -> Checkpoint:
        store, ledger = f"file:{self.folder / 'store'}", f"sqlite:{self.folder / 'ledger.db'}"
        async with connect_workspace(self.folder / "look", store=store, ledger=ledger, worker="look") as workspace:
            return Checkpoint(**(await results_of(workspace, self.run))[f"train:{ARM}"])


async def enter(folder: Path, settings: RunFile) -> Nodes:
    """A run in a ledger of its own, and a job that does all of it."""
    plan = resolve(settings)
    run = run_id(plan, target="any")
    ledger = f"sqlite:{folder / 'ledger.db'}"
    (folder / "store").mkdir(parents=True)
    async with connect_workspace(
        folder / "look", store=f"file:{folder / 'store'}", ledger=ledger, worker="look"
    ) as workspace:
        digest = await workspace.store.put(plan.content)
    tables = open_server_tables(ledger)
    try:
        await tables.runs.create(RunRecord(run=run, plan=digest))
        await tables.jobs.start(KEY, plan=digest, run=run)
    finally:
        await tables.aclose()
    return Nodes(folder=folder, run=run)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RunFile:
    from tracemend.proving.base_model import ensure_base

    cache = Path(os.environ.get("TRACEMEND_CACHE") or tmp_path_factory.mktemp("cache"))
    return trained_run(ensure_base(cache=cache, seed=0, num_threads=1)).model_copy(update={"evaluate": None})


@pytest.fixture(scope="module")
def expected(settings: RunFile, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The same training, of as many rows at each step, in this process."""
    folder = tmp_path_factory.mktemp("expected")
    finished = asyncio.run(run_pipeline(settings, folder, cache=folder, observer=Silent()))
    return finished.checkpoints[ARM]


@pytest.fixture
def nodes(settings: RunFile, tmp_path: Path) -> Iterator[Nodes]:
    entered = asyncio.run(enter(tmp_path, shared_by(settings, num_processes=2)))
    yield entered
    for process in entered.processes:
        process.kill()
        process.wait()


def shared_by(settings: RunFile, **train: Any) -> RunFile:
    """With a row for each of two processes at every step, where one took two."""
    arm = settings.arms[ARM]
    assert arm.train is not None
    update = {"launcher": "subprocess", "batch_size": 1, **train}
    return settings.model_copy(
        update={"arms": {ARM: arm.model_copy(update={"train": arm.train.model_copy(update=update)})}}
    )


@pytest.mark.parametrize("how", ["killed", pytest.param("drained", marks=pytest.mark.long)])
def test_two_nodes_train_to_the_loss_of_one_process_although_one_of_them_is_lost(
    nodes: Nodes, expected: Checkpoint, how: str
) -> None:
    pods = nodes.start()
    while not list(nodes.training.glob("checkpoints/*/STABLE.json")):
        assert all(pod.poll() is None for pod in pods), nodes.logs()
        time.sleep(0.1)
    if how == "killed":
        os.killpg(os.getpgid(_child_of(pods[1])), signal.SIGKILL)
        pods[1].kill()
        assert 0 not in nodes.end(pods), "the attempt fails as a whole"
    else:
        pods[1].terminate()
        assert nodes.end(pods) == [75, 75], nodes.logs()
    assert nodes.end(nodes.start()) == [0, 0], nodes.logs()
    checkpoint = asyncio.run(nodes.checkpoint())
    assert checkpoint.step == expected.step
    assert checkpoint.final_loss == pytest.approx(expected.final_loss, rel=1e-4)
    order = json.loads((nodes.training / "job.json").read_text())
    assert order["attempt"] == 2
    shares = [path.name for path in nodes.folder.glob("pods/jobs/*/state/crews/u-2/*")]
    assert sorted(shares) == ["call-0", "dismissed", "node-1"]


@pytest.mark.long
def test_two_nodes_train_with_deepspeed_to_the_same_loss(
    settings: RunFile, expected: Checkpoint, tmp_path: Path
) -> None:
    nodes = asyncio.run(enter(tmp_path, shared_by(settings, num_processes=2, deepspeed="zero2")))
    pods = nodes.start()
    try:
        assert nodes.end(pods) == [0, 0], nodes.logs()
    finally:
        for pod in pods:
            pod.kill()
    assert asyncio.run(nodes.checkpoint()).final_loss == pytest.approx(expected.final_loss, rel=1e-4)


def _child_of(pod: subprocess.Popen[bytes]) -> int:
    """torchrun, which leads a group of its own."""
    (listing,) = Path(f"/proc/{pod.pid}/task/{pod.pid}").glob("children")
    return int(listing.read_text(encoding="ascii").split()[0])


def test_processes_that_nodes_cannot_share_are_refused_before_anything_is_started(
    settings: RunFile, tmp_path: Path
) -> None:
    nodes = asyncio.run(enter(tmp_path, shared_by(settings, num_processes=3)))
    pods = nodes.start()
    try:
        assert nodes.end(pods)[0] == 2
    finally:
        for pod in pods:
            pod.kill()
    assert f"arms.{ARM}.train: num_processes is 3, and 2 nodes share them: make it a multiple of 2" in nodes.logs()
    assert not nodes.training.exists()
