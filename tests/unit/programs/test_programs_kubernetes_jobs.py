"""What the trainer and the evaluator ask the operator for, and what they make of its word."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tracemend.embedded.goals import Goal
from tracemend.embedded.job import DONE, Order
from tracemend.kit.ports import Address
from tracemend.kit.server_ports import JobRecord, RunRecord, ServerTables
from tracemend.programs.job_hosts import CRASH, Ended
from tracemend.programs.kubernetes_jobs import KubernetesHost
from tracemend.runtime.opening import open_server_tables
from tracemend.runtime.program_settings import PodSettings


class Api:
    """Keeps resources, and ends each as it is told to."""

    def __init__(self, phase: str, *, reason: str = "") -> None:
        self.made: list[dict[str, Any]] = []
        conditions = [{"type": "Failed", "status": "True", "reason": reason, "message": "words"}] if reason else []
        self._status = {"phase": phase, "conditions": conditions}

    async def call(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, query: Mapping[str, str] | None = None
    ) -> dict[str, Any] | None:
        if method == "POST":
            assert body is not None
            self.made.append(dict(body))
            return dict(body)
        made = next((each for each in self.made if path.endswith(each["metadata"]["name"])), None)
        return {**made, "status": self._status} if made is not None else None

    async def aclose(self) -> None:
        return None


@pytest.fixture
async def tables(tmp_path: Path) -> AsyncIterator[ServerTables]:
    opened = open_server_tables(f"sqlite:{tmp_path / 'ledger.db'}")
    await opened.runs.create(RunRecord(run="r", plan="p"))
    yield opened
    await opened.aclose()


class Deleting(Api):
    """Its resource is done with its job, and deleted before anybody has looked."""

    def __init__(self, tables: ServerTables) -> None:
        super().__init__("Running")
        self._tables = tables

    async def call(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, query: Mapping[str, str] | None = None
    ) -> dict[str, Any] | None:
        if method == "GET" and self.made:
            await self._tables.jobs.finish("training_1", 1, address=Address(pack="p", offset=0, length=1, digest="d"))
            return None
        return await super().call(method, path, body=body, query=query)


async def ended(tables: ServerTables, api: Api, kind: str, **settings: Any) -> Ended:
    await tables.jobs.start("training_1", plan="p", kind=kind, run="r")
    job = await tables.jobs.get("training_1")
    assert isinstance(job, JobRecord)
    host = KubernetesHost(api=api, settings=PodSettings(namespace="n", **settings), jobs=tables.jobs)
    goal = Goal(arm="a", measures=kind == "evaluation")
    places = {"store": "file:s", "ledger": "sqlite:l", "folder": "f", "cache": "c", "worker": "w"}
    return await host.run(job, Order(run="r", key=job.key, attempt=1, plan="p", goal=goal, **places))


@pytest.mark.parametrize(("kind", "nodes"), [("training", 2), ("evaluation", None)])
async def test_only_trainings_are_asked_for_on_several_nodes(
    tables: ServerTables, kind: str, nodes: int | None
) -> None:
    api = Api("Succeeded")
    assert (await ended(tables, api, kind, nodes=2, gpus=8, queue="training")).how == DONE
    (made,) = api.made
    assert made["metadata"]["name"] == "training-1"
    assert (made["spec"].get("nodes"), made["spec"]["gpusPerNode"], made["spec"]["queueName"]) == (nodes, 8, "training")


@pytest.mark.parametrize(
    ("reason", "how"), [("NeedsSetup", "SetupError"), ("BudgetSpent", "BudgetSpent"), ("TooManyFailures", CRASH)]
)
async def test_a_failed_resource_ends_the_job_with_its_reason_and_words(
    tables: ServerTables, reason: str, how: str
) -> None:
    end = await ended(tables, Api("Failed", reason=reason), "training")
    assert (end.how, end.reason) == (how, "words")


async def test_a_done_job_is_not_begun_again_when_its_resource_is_deleted(tables: ServerTables) -> None:
    api = Deleting(tables)
    assert await ended(tables, api, "training") == Ended(how=DONE, attempt=1)
    assert len(api.made) == 1
