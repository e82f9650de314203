"""Six services as processes over real Kafka, MinIO and PostgreSQL: the same outcomes and datasets as in one process."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.runs_compared import ROOT, embedded, facts_of_run, null_run, shrunk
from tests.cluster.spine import SERVICES, Spine

from tracemend.client.errors import CallError
from tracemend.kit.run_states import RunState
from tracemend.records import OutcomeState

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1800)]


def test_a_run_across_six_processes_ends_as_in_one(tmp_path: Path) -> None:
    async def check() -> None:
        settings = null_run(limit=80)
        expected = await embedded(settings, tmp_path / "embedded", cache=tmp_path)
        async with Spine.on_servers(tmp_path) as spine:
            spine.start_all()
            run = await spine.submit(settings)
            await spine.wait_done(run)
            assert await facts_of_run(spine.workspace, run) == expected
            await faces_answer(spine, run)
            for service in ("ingestion", "judge"):
                assert spine.kill(service, how=signal.SIGTERM) == 0, spine.log(service)[-2000:]

    asyncio.run(check())


async def faces_answer(spine: Spine, run: str) -> None:
    """Each service has a gRPC face that knows the run."""
    import grpc

    from tracemend.api.corrector.v1 import corrector_service_pb2 as corrector
    from tracemend.api.corrector.v1.corrector_service_pb2_grpc import CorrectorServiceStub
    from tracemend.api.evaluator.v1 import evaluator_service_pb2 as evaluator
    from tracemend.api.evaluator.v1.evaluator_service_pb2_grpc import EvaluatorServiceStub
    from tracemend.api.generator.v1 import generator_service_pb2 as generator
    from tracemend.api.generator.v1.generator_service_pb2_grpc import GeneratorServiceStub
    from tracemend.api.judge.v1 import judge_service_pb2 as judge
    from tracemend.api.judge.v1.judge_service_pb2_grpc import JudgeServiceStub
    from tracemend.api.trainer.v1 import trainer_service_pb2 as trainer
    from tracemend.api.trainer.v1.trainer_service_pb2_grpc import TrainerServiceStub

    record = await spine.tables.runs.get(run)
    assert record is not None

    async def ask(service: str, stub: Any, method: str, request: Any) -> Any:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{spine.ports[service]}") as channel:
            return await getattr(stub(channel), method)(request, timeout=20)

    model = await ask("generator", GeneratorServiceStub, "DescribeModel", generator.DescribeModelRequest())
    assert model.model.target == spine.target
    panel = await ask("judge", JudgeServiceStub, "DescribePanel", judge.DescribePanelRequest(plan=record.plan))
    assert {member.name for member in panel.members} == {"last_word"}
    strategies = corrector.DescribeStrategiesRequest(plan=record.plan)
    arms = await ask("corrector", CorrectorServiceStub, "DescribeStrategies", strategies)
    assert {strategy.arm for strategy in arms.strategies} == {"filter", "rewrite"}
    trainings = trainer.ListTrainingsRequest(run=f"runs/{run}")
    assert not (await ask("trainer", TrainerServiceStub, "ListTrainings", trainings)).trainings
    start = evaluator.StartEvaluationRequest(run=f"runs/{run}", arm="base", request_id=str(uuid.uuid4()))
    with pytest.raises(grpc.aio.AioRpcError, match="measures nothing"):
        await ask("evaluator", EvaluatorServiceStub, "StartEvaluation", start)


def test_killing_each_service_in_turn_changes_nothing(tmp_path: Path) -> None:
    async def check() -> None:
        settings = null_run(limit=500, engine_options={"delay_s": 0.01, "jitter_s": 0.1})
        expected = await embedded(settings, tmp_path / "embedded", cache=tmp_path)
        async with Spine.on_servers(tmp_path, TRACEMEND_CONCURRENCY="16") as spine:
            spine.start_all()
            run = await spine.submit(settings)
            await spine.wait_until(run, RunState.RUNNING)
            for service in SERVICES[:-1]:
                await spine.wait_progress(run, 100)
                assert spine.kill(service) == -signal.SIGKILL
                spine.start(service)
            await spine.wait_done(run, within_s=600)
            assert await facts_of_run(spine.workspace, run) == expected

    asyncio.run(check())


def test_a_paused_run_goes_on_where_it_stood_and_a_cancelled_one_ends(tmp_path: Path) -> None:
    async def check() -> None:
        settings = null_run(limit=150, engine_options={"delay_s": 0.2, "jitter_s": 0.2})
        expected = await embedded(settings, tmp_path / "embedded", cache=tmp_path)
        other = settings.model_copy(update={"name": "other", "seed": 1})
        async with Spine.on_servers(tmp_path, TRACEMEND_CONCURRENCY="8") as spine, spine.client() as client:
            spine.start_all()
            run, cancelled = await spine.submit(settings), await spine.submit(other)
            await spine.wait_until(run, RunState.RUNNING)
            await spine.wait_until(cancelled, RunState.RUNNING)
            await client.run(cancelled).cancel()
            await client.run(run).pause()
            await asyncio.sleep(3.0)  # what was in flight ends
            before = await spine.workspace.ledger.outcome_counts(run)
            await asyncio.sleep(2.0)
            assert await spine.workspace.ledger.outcome_counts(run) == before, "nothing is worked on meanwhile"
            await client.run(run).resume()
            await spine.wait_done(run, within_s=600)
            assert await facts_of_run(spine.workspace, run) == expected
            units = await spine.workspace.ledger.unit_counts(cancelled)
            counts = await spine.workspace.ledger.outcome_counts(cancelled)
            assert sum(counts.values()) == sum(units.values())
            assert any(state == OutcomeState.CANCELLED for _, state, _ in counts)

    asyncio.run(check())


def test_a_run_that_names_an_unserved_target_is_refused(tmp_path: Path) -> None:
    async def check() -> None:
        async with Spine.on_servers(tmp_path) as spine:
            spine.start("ingestion")
            with pytest.raises(CallError, match="elsewhere"):
                await spine.submit(null_run(limit=1, served_as="elsewhere"))

    asyncio.run(check())


@pytest.mark.slow
@pytest.mark.parametrize(
    "example",
    ["examples/ipo.yaml", pytest.param("services/tracemend/embedded/demo.yaml", marks=pytest.mark.long)],
)
def test_an_example_with_real_weights_ends_as_in_one_process(example: str, tmp_path: Path) -> None:
    """IPO and UnsafeChain on the proving ground. One response at a time: in batches, float noise moves samples."""

    async def check() -> None:
        from tracemend.proving.base_model import ensure_base

        cache = Path(os.environ.get("TRACEMEND_CACHE") or tmp_path / "cache")
        model = await asyncio.to_thread(ensure_base, cache=cache, seed=0, num_threads=1)
        one_by_one = {"max_batch": 1, "kept_mb": 0}
        settings = shrunk(
            ROOT / example, limit=8, model=str(model), served_as="base", samples=2, engine_options=one_by_one
        )
        expected = await embedded(settings, tmp_path / "embedded", cache=cache)
        async with Spine.on_servers(tmp_path, target="base") as spine:
            spine.start_all()
            run = await spine.submit(settings)
            await spine.wait_done(run, within_s=900)
            assert await facts_of_run(spine.workspace, run) == expected

    asyncio.run(check())
