"""Evaluations and reports over gRPC, across six processes: one that is cancelled ends with its process, and a report's
page, which shows text, is for reviewers who say why and leaves an entry in the audit log. An arm that cannot be
finished keeps the others' report from nobody."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.spine import Spine
from tests.cluster.test_rpc_fuzz import methods_of_service, tokens_file, until_served
from tests.rpc_client import call, fault, plain_channel
from tests.unit.embedded.small_runs import small
from tests.unit.embedded.test_embedded_unfinished import arms

from tracemend.api.evaluator.v1 import evaluator_service_pb2 as pb
from tracemend.embedded.runfile import BASE
from tracemend.kit.run_states import RunState
from tracemend.runtime.rpc.faults import Code
from tracemend.runtime.rpc.permissions import Role

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

METHODS = {method.name: method for method in methods_of_service("evaluator")}


async def ask(spine: Spine, method: str, request: Any, role: Role, **metadata: str) -> Any:
    async with plain_channel(spine.ports["evaluator"]) as channel:
        return await call(channel, METHODS[method], request, authorization=f"Bearer token-of-{role.value}", **metadata)


async def refusal(spine: Spine, method: str, request: Any, role: Role) -> Any:
    async with plain_channel(spine.ports["evaluator"]) as channel:
        return await fault(channel, METHODS[method], request, authorization=f"Bearer token-of-{role.value}")


def children(process: Any) -> list[str]:
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


async def check_cancelling(spine: Spine, run: str) -> None:
    """An evaluation at work is ended with its process, and stays so."""
    start = pb.StartEvaluationRequest(run=f"runs/{run}", arm=BASE, request_id=str(uuid.uuid4()))
    begun = (await ask(spine, "StartEvaluation", start, Role.OPERATOR)).evaluation
    async with asyncio.timeout(30):
        while not children(spine.processes["evaluator"]):  # noqa: ASYNC110 - nobody tells this process
            await asyncio.sleep(0.1)
    cancel = pb.CancelEvaluationRequest(name=begun.name, request_id=str(uuid.uuid4()))
    assert (await refusal(spine, "CancelEvaluation", cancel, Role.SUBMITTER)).code is Code.PERMISSION_DENIED
    cancelled = (await ask(spine, "CancelEvaluation", cancel, Role.OPERATOR)).evaluation
    assert cancelled.state == pb.Evaluation.STATE_CANCELLED
    assert children(spine.processes["evaluator"]) == []
    again = pb.StartEvaluationRequest(run=f"runs/{run}", arm=BASE, request_id=str(uuid.uuid4()))
    assert (await refusal(spine, "StartEvaluation", again, Role.OPERATOR)).reason == "JOB_CANCELLED"
    watch = pb.WatchEvaluationRequest(name=begun.name)
    (last,) = await ask(spine, "WatchEvaluation", watch, Role.AUDITOR)
    assert last.evaluation.state == pb.Evaluation.STATE_CANCELLED


async def check_download(spine: Spine, run: str) -> None:
    """Figures are for all; the page is for reviewers who say what for, and who is written down first."""
    figures = await ask(spine, "GetReport", pb.GetReportRequest(run=f"runs/{run}"), Role.AUDITOR)
    assert b"metrics" in figures.figures
    request = pb.DownloadReportRequest(run=f"runs/{run}")
    for role in (Role.OPERATOR, Role.ADMIN):
        assert (await refusal(spine, "DownloadReport", request, role)).code is Code.PERMISSION_DENIED
    assert (await refusal(spine, "DownloadReport", request, Role.REVIEWER)).code is Code.FAILED_PRECONDITION
    before = await spine.tables.audit.head()
    purpose = {"x_tracemend_purpose": "quarterly review"}
    chunks = await ask(spine, "DownloadReport", request, Role.REVIEWER, **purpose)
    page = b"".join(chunk.content for chunk in chunks)
    assert page.startswith(b"<!doctype html>")
    entries = await spine.tables.audit.entries(after=before.number)
    assert [(each.entry.action.rpartition("/")[2], each.entry.purpose) for each in entries] == [
        ("DownloadReport", "quarterly review")
    ]
    assert await spine.tables.audit.verify() is None


def test_an_evaluation_is_cancelled_and_a_report_is_shown_to_reviewers_alone(tmp_path: Path) -> None:
    async def check() -> None:
        settings = small()
        slow = settings.target.model_copy(update={"engine_options": {"delay_s": 8.0}, "served_as": "null"})
        roles = {"TRACEMEND_RPC_TOKENS_FILE": str(tokens_file(tmp_path)), "TRACEMEND_RPC_ANONYMOUS_ROLES": "[]"}
        (tmp_path / "token").write_text(f"token-of-{Role.SUBMITTER.value}")
        async with Spine.on_servers(tmp_path, **roles) as spine:
            spine.credentials = {"plaintext": True, "token_file": tmp_path / "token"}
            spine.start_all()
            await until_served(spine, "evaluator")
            run = await spine.submit(settings.model_copy(update={"target": slow}))
            await spine.wait_until(run, RunState.RUNNING)
            await check_cancelling(spine, run)
            await spine.wait_done(run)
            await check_download(spine, run)

    asyncio.run(check())


def test_a_run_with_an_arm_that_cannot_be_finished_ends_with_the_report_of_the_others(tmp_path: Path) -> None:
    async def check() -> None:
        settings = small(arms=arms(reasoning_share=1.0, benign_share=0.0))
        async with Spine.on_servers(tmp_path) as spine:
            spine.start_all()
            target = settings.target.model_copy(update={"served_as": "null"})
            run = await spine.submit(settings.model_copy(update={"target": target}))
            failed = await spine.wait_until(run, RunState.FAILED)
            assert "arm 'a' has no rows to train on" in failed.reason
            async with plain_channel(spine.ports["evaluator"]) as channel:
                report = await call(channel, METHODS["GetReport"], pb.GetReportRequest(run=f"runs/{run}"))
            figures = json.loads(report.figures)
            told = [each["text"] for each in figures["trust"]["warnings"] if each["code"] == "unfinished_arm"]
            assert len(told) == 2
            assert {"heldout", "plain"} <= figures["quadrants"][BASE].keys() | figures["compliance"][BASE].keys()

    asyncio.run(check())
