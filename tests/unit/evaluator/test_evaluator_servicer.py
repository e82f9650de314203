"""Evaluations and reports by gRPC over the real job table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fuzzing import fuzz
from tests.rpc_serving import Client, serving
from tests.unit.runtime.jobs_service import NotingWorker

from tracemend.api.evaluator.v1 import evaluator_service_pb2 as pb
from tracemend.evaluator.servicer import PIECE_BYTES, EvaluationFacts, EvaluatorServicer, registration
from tracemend.kit.ids import make_id
from tracemend.kit.server_ports import JobRecord, RunRecord, ServerTables
from tracemend.runtime.job_desk import JobTerms
from tracemend.runtime.opening import open_server_tables
from tracemend.runtime.rpc.faults import Code
from tracemend.runtime.rpc.pages import Pages
from tracemend.runtime.rpc.permissions import Role

FIGURES = json.dumps({"harm": 0.25, "examples": [{"prompt": {"text": "shibboleth"}}]}).encode()
PAGE = b"<html>" + b"x" * (2 * PIECE_BYTES)


class OneRun:
    async def terms(self, *, run: str, arm: str) -> JobTerms:
        return JobTerms(key=make_id("evaluation", run, arm), plan=f"terms of {arm}", run=run)

    async def facts(self, job: JobRecord) -> EvaluationFacts:
        return EvaluationFacts(arm=job.plan.rpartition(" ")[2], plan="ab" * 32, model="m1")


class Reports:
    """Run `r1` has a report."""

    async def figures(self, run: str) -> bytes | None:
        return FIGURES if run == "r1" else None

    async def page(self, run: str) -> bytes | None:
        return PAGE if run == "r1" else None


@dataclass
class Served:
    client: Client
    tables: ServerTables


@asynccontextmanager
async def served(tmp_path: Path, role: Role = Role.OPERATOR) -> AsyncIterator[Served]:
    tables = open_server_tables(f"sqlite:{tmp_path / 'tables.db'}")
    await tables.runs.create(RunRecord(run="r1", plan="p1"))
    servicer = EvaluatorServicer(
        OneRun(), reports=Reports(), jobs=tables.jobs, worker=NotingWorker(), pages=Pages(b"key")
    )
    async with serving(registration(servicer), role=role, requests=tables.requests) as client:
        yield Served(client, tables)
    await tables.aclose()


async def test_an_evaluation_is_started_listed_watched_and_cancelled(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        request = pb.StartEvaluationRequest(run="runs/r1", arm="mend", request_id="one")
        started = (await on.client.call("StartEvaluation", request)).evaluation
        assert (started.state, started.arm, started.model) == (pb.Evaluation.STATE_RUNNING, "mend", "m1")
        await on.tables.jobs.progress(started.name.partition("/")[2], 1, {"num_judged": 7, "num_trajectories": 9})
        (listed,) = (await on.client.call("ListEvaluations", pb.ListEvaluationsRequest())).evaluations
        assert (listed.num_judged, listed.num_trajectories) == (7, 9)
        cancel = pb.CancelEvaluationRequest(name=started.name)
        cancelled = (await on.client.call("CancelEvaluation", cancel)).evaluation
        (last,) = await on.client.call("WatchEvaluation", pb.WatchEvaluationRequest(name=started.name))
        assert last.evaluation == cancelled
        assert cancelled.state == pb.Evaluation.STATE_CANCELLED


async def test_figures_are_for_everybody_who_watches_and_hold_no_words(tmp_path: Path) -> None:
    async with served(tmp_path, Role.AUDITOR) as on:
        report = await on.client.call("GetReport", pb.GetReportRequest(run="runs/r1"))
        assert json.loads(report.figures) == {"harm": 0.25, "examples": []}
        assert report.digest == hashlib.sha256(report.figures).hexdigest()
        assert (await on.client.fault("GetReport", pb.GetReportRequest(run="runs/r2"))).code is Code.NOT_FOUND
        denied = await on.client.fault("DownloadReport", pb.DownloadReportRequest(run="runs/r1"))
        assert denied.code is Code.PERMISSION_DENIED


async def test_the_page_comes_in_pieces_to_reviewers_who_say_why(tmp_path: Path) -> None:
    async with served(tmp_path, Role.REVIEWER) as on:
        asked = pb.DownloadReportRequest(run="runs/r1")
        assert (await on.client.fault("DownloadReport", asked)).reason == "PURPOSE_REQUIRED"
        pieces = await on.client.call("DownloadReport", asked, x_tracemend_purpose="review of run r1")
        assert b"".join(piece.content for piece in pieces) == PAGE
        assert len(pieces) == 3
        (entry,) = on.client.audit.appended
        assert (entry.resource, entry.purpose) == ("runs/r1", "review of run r1")


async def test_bytes_thrown_at_the_evaluator_find_no_bug(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        started = await on.client.call("StartEvaluation", pb.StartEvaluationRequest(run="runs/r1", arm="mend"))
        name = started.evaluation.name
        await on.client.call("CancelEvaluation", pb.CancelEvaluationRequest(name=name))
        valid = {
            "StartEvaluation": pb.StartEvaluationRequest(run="runs/r1", arm="other"),
            "GetEvaluation": pb.GetEvaluationRequest(name=name),
            "WatchEvaluation": pb.WatchEvaluationRequest(name=name),
            "GetReport": pb.GetReportRequest(run="runs/r1"),
        }
        counts = await fuzz(on.client.channel, list(on.client.methods.values()), number=400, seed=8, valid=valid)
    assert counts["GetReport: OK"] > 5
