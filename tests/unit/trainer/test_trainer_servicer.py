"""Trainings by gRPC over the real job table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fuzzing import fuzz
from tests.rpc_serving import Client, serving
from tests.unit.runtime.jobs_service import NotingWorker

from tracemend.api.trainer.v1 import trainer_service_pb2 as pb
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import make_id
from tracemend.kit.ports import Address
from tracemend.kit.server_ports import JobRecord, JobState, RunRecord, ServerTables
from tracemend.records import Checkpoint
from tracemend.runtime.job_desk import JobTerms
from tracemend.runtime.opening import open_server_tables
from tracemend.runtime.rpc.faults import Code, not_found
from tracemend.runtime.rpc.pages import Pages
from tracemend.runtime.rpc.permissions import Role
from tracemend.trainer.servicer import TrainerServicer, TrainingFacts, registration

ADDRESS = Address(pack="p", offset=0, length=1, digest="d")
MODEL = Checkpoint(
    id="c1", arm="mend", parent="base", model="m2", path="x", dataset="data-1", step=9, final_loss=0.5, metrics={}
)


class OneRun:
    """Run `r1`, whose arms `mend` and `other` train and whose arm `guarded` does not."""

    async def terms(self, *, run: str, arm: str, dataset: str) -> JobTerms:
        if run != "r1":
            raise not_found(f"runs/{run}")
        if arm == "guarded":
            raise SetupError("arm 'guarded' does not train; name one with a `train` section")
        return JobTerms(key=make_id("training", arm, dataset), plan=f"terms of {arm}", run=run)

    async def facts(self, job: JobRecord) -> TrainingFacts:
        arm = job.plan.rpartition(" ")[2]
        checkpoint = MODEL if job.state is JobState.DONE else None
        return TrainingFacts(arm=arm, plan="ab" * 32, dataset="data-1", checkpoint=checkpoint)


@dataclass
class Served:
    client: Client
    tables: ServerTables
    worker: NotingWorker


@asynccontextmanager
async def served(tmp_path: Path, role: Role = Role.OPERATOR) -> AsyncIterator[Served]:
    tables, worker = open_server_tables(f"sqlite:{tmp_path / 'tables.db'}"), NotingWorker()
    await tables.runs.create(RunRecord(run="r1", plan="p1"))
    servicer = TrainerServicer(OneRun(), jobs=tables.jobs, worker=worker, pages=Pages(b"key"))
    async with serving(registration(servicer), role=role, requests=tables.requests) as client:
        yield Served(client, tables, worker)
    await tables.aclose()


def start(arm: str = "mend", **fields: object) -> object:
    return pb.StartTrainingRequest(run="runs/r1", arm=arm, **fields)


async def test_starting_the_same_training_again_is_one_training(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        first = (await on.client.call("StartTraining", start())).training
        again = (await on.client.call("StartTraining", start())).training
        found = (await on.client.call("GetTraining", pb.GetTrainingRequest(name=first.name))).training
        assert first == again == found
        assert (found.state, found.attempt, found.arm, found.run) == (pb.Training.STATE_RUNNING, 1, "mend", "runs/r1")
        assert len(on.worker.launched) == 1
        assert [entry.action.rpartition("/")[2] for entry in on.client.audit.appended] == ["StartTraining"] * 2


async def test_a_failed_training_gets_another_attempt_and_a_finished_one_none(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        name = (await on.client.call("StartTraining", start())).training.name
        key = name.partition("/")[2]
        await on.tables.jobs.fail(key, 1, reason="out of memory")
        failed = (await on.client.call("GetTraining", pb.GetTrainingRequest(name=name))).training
        assert (failed.state, failed.reason) == (pb.Training.STATE_FAILED, "out of memory")
        assert (await on.client.call("StartTraining", start())).training.attempt == 2
        await on.tables.jobs.finish(key, 2, address=ADDRESS)
        done = (await on.client.call("StartTraining", start())).training
        assert (done.state, done.checkpoint.model) == (pb.Training.STATE_SUCCEEDED, "m2")
        assert on.worker.launched == [(key, 1), (key, 2)]


async def test_what_is_only_to_be_checked_is_not_started(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        checked = (await on.client.call("StartTraining", start(validate_only=True))).training
        assert checked.state == pb.Training.STATE_PENDING
        assert (await on.client.fault("GetTraining", pb.GetTrainingRequest(name=checked.name))).code is Code.NOT_FOUND
        assert on.worker.launched == []
        nothing = await on.client.fault("StartTraining", start(arm="guarded", validate_only=True))
        assert (nothing.code, "does not train" in nothing.message) == (Code.FAILED_PRECONDITION, True)


async def test_a_cancelled_training_stays_so_and_its_worker_is_told(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        training = (await on.client.call("StartTraining", start())).training
        stale = pb.CancelTrainingRequest(name=training.name, etag='"old"')
        assert (await on.client.fault("CancelTraining", stale)).code is Code.ABORTED
        cancel = pb.CancelTrainingRequest(name=training.name, etag=training.etag, request_id="c-1")
        cancelled = (await on.client.call("CancelTraining", cancel)).training
        assert cancelled.state == pb.Training.STATE_CANCELLED
        assert (await on.client.call("CancelTraining", cancel)).training == cancelled
        assert on.worker.stopped == [training.name.partition("/")[2]]
        assert (await on.client.fault("StartTraining", start())).reason == "JOB_CANCELLED"


async def test_a_watch_shows_every_change_and_ends_with_the_last(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        name = (await on.client.call("StartTraining", start())).training.name
        key = name.partition("/")[2]
        watching = asyncio.create_task(on.client.call("WatchTraining", pb.WatchTrainingRequest(name=name), within_s=30))
        await asyncio.sleep(0.3)
        await on.tables.jobs.progress(key, 1, {"step": 3, "num_steps": 9, "loss": 0.25})
        await asyncio.sleep(1.5)
        await on.tables.jobs.finish(key, 1, address=ADDRESS)
        seen = await watching
        assert [(one.training.state, one.training.step) for one in seen] == [
            (pb.Training.STATE_RUNNING, 0),
            (pb.Training.STATE_RUNNING, 3),
            (pb.Training.STATE_SUCCEEDED, 3),
        ]
        from_there = pb.WatchTrainingRequest(name=name, cursor=seen[1].cursor)
        assert await on.client.call("WatchTraining", from_there) == seen[2:]


async def test_a_list_is_paged_and_its_tokens_belong_to_it(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        for number in range(5):
            await on.client.call("StartTraining", start(dataset=f"data-{number}"))
        names, token = [], ""
        while True:
            request = pb.ListTrainingsRequest(run="runs/r1", page_size=2, page_token=token)
            page = await on.client.call("ListTrainings", request)
            names += [training.name for training in page.trainings]
            token = page.next_page_token
            if not token:
                break
            foreign = pb.ListTrainingsRequest(page_token=token)
            assert "page_token" in (await on.client.fault("ListTrainings", foreign)).violations
        assert len(names) == len(set(names)) == 5


@pytest.mark.parametrize("name", ["", "trainings/", "runs/r1", "trainings/../x", "evaluations/a"])
async def test_a_name_of_something_else_is_an_invalid_field(tmp_path: Path, name: str) -> None:
    async with served(tmp_path) as on:
        assert "name" in (await on.client.fault("GetTraining", pb.GetTrainingRequest(name=name))).violations


async def test_bytes_thrown_at_the_trainer_find_no_bug(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        name = (await on.client.call("StartTraining", start())).training.name
        await on.tables.jobs.finish(name.partition("/")[2], 1, address=ADDRESS)
        valid = {
            "StartTraining": start(),
            "GetTraining": pb.GetTrainingRequest(name=name),
            "ListTrainings": pb.ListTrainingsRequest(run="runs/r1"),
            "WatchTraining": pb.WatchTrainingRequest(name=name),
            "CancelTraining": pb.CancelTrainingRequest(name=name),
        }
        counts = await fuzz(on.client.channel, list(on.client.methods.values()), number=400, seed=6, valid=valid)
    assert counts["GetTraining: OK"] > 5
