"""A run with a trained arm across real processes, to its report: the figures of one process, the trainer killed in
the middle of training, and single trainings and evaluations asked for over gRPC."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.runs_compared import ROOT
from tests.cluster.spine import Spine
from tests.cluster.test_reports import children

from tracemend.embedded.phases import results_of
from tracemend.embedded.pipeline import run_pipeline
from tracemend.embedded.progress import Silent
from tracemend.embedded.runfile import RunFile, load_run_file
from tracemend.kit.server_ports import Fenced, JobRecord, JobState
from tracemend.programs.coordinating import KIND
from tracemend.trainer.settings import TrainSettings

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(1800)]

ARM = "unsafechain"


def trained_run(model: Path) -> RunFile:
    """The demo with one arm, a few rows, a few steps and two short benchmarks; one response at a time, because float
    noise moves samples in batches."""
    settings = load_run_file(ROOT / "services/tracemend/embedded/demo.yaml")
    arm, evaluate = settings.arms[ARM], settings.evaluate
    assert evaluate is not None
    assert arm.train is not None
    assemble = arm.assemble.model_copy(update={"rows": 4, "match": ()})
    train = TrainSettings(learning_rate=1e-4, epochs=6, batch_size=2, max_length=arm.train.max_length, save_steps=2)
    benchmarks = {name: evaluate.benchmarks[name] for name in ("in_distribution", "plain")}
    target = {"model": str(model), "served_as": "base", "samples": 2, "engine_options": {"max_batch": 1, "kept_mb": 0}}
    update = {
        "arms": {ARM: arm.model_copy(update={"assemble": assemble, "train": train})},
        "evaluate": evaluate.model_copy(update={"benchmarks": benchmarks}),
        "limit": 6,
        "target": settings.target.model_copy(update=target),
    }
    return settings.model_copy(update=update)


def figures(report: dict[str, Any]) -> Any:
    """What must be equal: all measured values."""
    return {name: report[name] for name in ("metrics", "comparisons", "quadrants")}


async def ask(spine: Spine, service: str, method: str, request: Any) -> Any:
    import grpc

    from tracemend.api.evaluator.v1.evaluator_service_pb2_grpc import EvaluatorServiceStub
    from tracemend.api.trainer.v1.trainer_service_pb2_grpc import TrainerServiceStub

    stub: Any = {"evaluator": EvaluatorServiceStub, "trainer": TrainerServiceStub}[service]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{spine.ports[service]}") as channel:
        call = getattr(stub(channel), method)(request, timeout=600)
        return [message async for message in call] if method.startswith("Watch") else await call


async def in_the_middle_of_training(spine: Spine, run: str) -> JobRecord:
    """The run's job, once it has trained a step."""
    ends_at = time.monotonic() + 600
    while time.monotonic() < ends_at:
        jobs = await spine.tables.jobs.page(kind=KIND, run=run)
        if jobs and any(spine.folder.glob("trainer/jobs/*/checkpoints/*/checkpoints/checkpoint-*")):
            return jobs[0]
        await asyncio.sleep(0.1)
    raise AssertionError(spine.log("trainer")[-2000:])


async def ended_job(spine: Spine, key: str) -> JobRecord:
    """The job, once it runs no more."""
    async with asyncio.timeout(60):
        while True:
            job = await spine.tables.jobs.get(key)
            if job is not None and job.state is not JobState.RUNNING:
                return job
            await asyncio.sleep(0.1)


def test_a_trained_run_is_reported_as_in_one_process_although_its_trainer_is_killed(tmp_path: Path) -> None:
    async def check() -> None:
        from tracemend.api.evaluator.v1 import evaluator_service_pb2 as evaluator
        from tracemend.api.trainer.v1 import trainer_service_pb2 as trainer
        from tracemend.proving.base_model import ensure_base

        cache = Path(os.environ.get("TRACEMEND_CACHE") or tmp_path / "cache")
        settings = trained_run(await asyncio.to_thread(ensure_base, cache=cache, seed=0, num_threads=1))
        finished = await run_pipeline(settings, tmp_path / "embedded", cache=cache, observer=Silent())
        assert finished.report is not None
        expected = json.loads((finished.folder / "report.json").read_text())
        async with Spine.on_servers(tmp_path, target="base") as spine:
            spine.start_all()
            run = await spine.submit(settings)
            before = await in_the_middle_of_training(spine, run)
            assert spine.kill("trainer") == -signal.SIGKILL
            spine.start("trainer")
            await spine.wait_done(run, within_s=900)
            job = await spine.tables.jobs.get(before.key)
            assert job is not None
            assert job.attempt > before.attempt
            with pytest.raises(Fenced):
                await spine.tables.jobs.progress(job.key, before.attempt, {})
            got = await ask(spine, "evaluator", "GetReport", evaluator.GetReportRequest(run=f"runs/{run}"))
            assert figures(json.loads(got.figures)) == figures(expected)
            # The evaluator's machine has none of the trainer's files.
            start = evaluator.StartEvaluationRequest(run=f"runs/{run}", arm=ARM, request_id=str(uuid.uuid4()))
            begun = (await ask(spine, "evaluator", "StartEvaluation", start)).evaluation
            watched = await ask(
                spine, "evaluator", "WatchEvaluation", evaluator.WatchEvaluationRequest(name=begun.name)
            )
            assert watched[-1].evaluation.state == evaluator.Evaluation.STATE_SUCCEEDED, watched[-1]
            assert watched[-1].evaluation.model == finished.checkpoints[ARM].model
            assert list(spine.folder.glob(f"evaluator/jobs/*/checkpoints/{ARM}/model/config.json"))
            # A trainer that has lost its disk fetches what was trained.
            shutil.rmtree(tmp_path / "trainer" / "jobs")
            again = trainer.StartTrainingRequest(run=f"runs/{run}", arm=ARM, request_id=str(uuid.uuid4()))
            name = (await ask(spine, "trainer", "StartTraining", again)).training.name
            seen = await ask(spine, "trainer", "WatchTraining", trainer.WatchTrainingRequest(name=name))
            assert seen[-1].training.state == trainer.Training.STATE_SUCCEEDED, seen[-1]
            assert seen[-1].training.checkpoint.model == finished.checkpoints[ARM].model
            assert list(spine.folder.glob(f"trainer/jobs/*/checkpoints/{ARM}/model/config.json"))

    asyncio.run(check())


def test_a_run_that_is_cancelled_in_training_ends_its_processes_and_leaves_no_model(tmp_path: Path) -> None:
    async def check() -> None:
        from tracemend.proving.base_model import ensure_base

        cache = Path(os.environ.get("TRACEMEND_CACHE") or tmp_path / "cache")
        settings = trained_run(await asyncio.to_thread(ensure_base, cache=cache, seed=0, num_threads=1))
        async with Spine.on_servers(tmp_path, target="base") as spine, spine.client() as client:
            spine.start_all()
            run = await spine.submit(settings)
            job = await in_the_middle_of_training(spine, run)
            assert children(spine.processes["trainer"])
            await client.run(run).cancel()
            async with asyncio.timeout(60):
                while children(spine.processes["trainer"]):  # noqa: ASYNC110 - nobody tells this process
                    await asyncio.sleep(0.1)
            stopped = await ended_job(spine, job.key)
            assert (stopped.state, stopped.reason) == (JobState.CANCELLED, "the run was cancelled")
            assert f"train:{ARM}" not in await results_of(spine.workspace, run)
            counts = [
                await ask_for(run)
                for ask_for in (spine.workspace.ledger.unit_counts, spine.workspace.ledger.outcome_counts)
            ]
            assert sum(counts[0].values()) == sum(counts[1].values())

    asyncio.run(check())
