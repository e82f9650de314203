"""The gRPC face of measuring: evaluations as jobs, and the reports that runs end in.

Registered by the evaluator program, which hands in how a request becomes a job (`Evaluations`), who works it off, and
where reports lie. The report's page shows examples: it is for reviewers, and the server's chain writes the audit entry
before the method runs. Its figures are for everybody who watches, so they leave without the examples.
"""
# ruff: noqa: N802 - methods are called what the proto calls them

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from tracemend.api.evaluator.v1 import evaluator_service_pb2 as pb
from tracemend.evaluator.report.build import without_words
from tracemend.kit.server_ports import JobRecord, Jobs, JobState
from tracemend.runtime.job_desk import RUN, JobDesk, JobTerms, Worker
from tracemend.runtime.messages import timestamp
from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.faults import not_found
from tracemend.runtime.rpc.names import format_name, parse_name
from tracemend.runtime.rpc.pages import Pages
from tracemend.runtime.rpc.server import Registration
from tracemend.runtime.rpc.validators import Validators, at_most, check, named, required

KIND = "evaluation"
EVALUATION = "evaluations/{evaluation}"
PIECE_BYTES = 256 * 1024
_STATES = {
    JobState.RUNNING: pb.Evaluation.STATE_RUNNING,
    JobState.DONE: pb.Evaluation.STATE_SUCCEEDED,
    JobState.FAILED: pb.Evaluation.STATE_FAILED,
    JobState.CANCELLED: pb.Evaluation.STATE_CANCELLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationFacts:
    """What an evaluation is about, beside its job."""

    arm: str
    plan: str
    """Digest of the run's plan."""
    model: str
    """Identity of the measured model; empty while it is not known."""


class Evaluations(Protocol):
    """What a program knows of evaluations and the servicer does not."""

    async def terms(self, *, run: str, arm: str) -> JobTerms:
        """The job that measures `arm`. Raises `Fault` (`not_found`) for what does not exist, `SetupError` where there
        is nothing to measure."""
        ...

    async def facts(self, job: JobRecord) -> EvaluationFacts: ...


class Reports(Protocol):
    """Where the reports of runs lie; None where a run has none yet."""

    async def figures(self, run: str) -> bytes | None:
        """report.json, examples and all."""
        ...

    async def page(self, run: str) -> bytes | None:
        """report.html."""
        ...


class EvaluatorServicer:
    """`tracemend.api.evaluator.v1.EvaluatorService`."""

    def __init__(self, evaluations: Evaluations, *, reports: Reports, jobs: Jobs, worker: Worker, pages: Pages) -> None:
        self._evaluations = evaluations
        self._reports = reports
        self._desk = JobDesk(jobs, worker, kind=KIND, pattern=EVALUATION, pages=pages)

    async def StartEvaluation(self, request: Any, call: Call) -> Any:
        (run,) = parse_name(request.run, RUN, field="run")
        terms = await self._evaluations.terms(run=run, arm=request.arm)
        job = await self._desk.start(terms, submitted_by=call.caller.name, validate_only=request.validate_only)
        return pb.StartEvaluationResponse(evaluation=await self._message(job))

    async def GetEvaluation(self, request: Any, call: Call) -> Any:
        return pb.GetEvaluationResponse(evaluation=await self._message(await self._desk.find(request.name)))

    async def ListEvaluations(self, request: Any, call: Call) -> Any:
        jobs, token = await self._desk.page(request)
        evaluations = [await self._message(job) for job in jobs]
        return pb.ListEvaluationsResponse(evaluations=evaluations, next_page_token=token)

    async def WatchEvaluation(self, request: Any, call: Call) -> AsyncIterator[Any]:
        async for job, cursor in self._desk.watch(request.name, cursor=request.cursor):
            yield pb.WatchEvaluationResponse(evaluation=await self._message(job), cursor=cursor)

    async def CancelEvaluation(self, request: Any, call: Call) -> Any:
        job = await self._desk.cancel(request.name, etag=request.etag)
        return pb.CancelEvaluationResponse(evaluation=await self._message(job))

    async def GetReport(self, request: Any, call: Call) -> Any:
        (run,) = parse_name(request.run, RUN, field="run")
        report = await self._reports.figures(run)
        if report is None:
            raise not_found(f"report of {request.run}")
        figures = await asyncio.to_thread(without_words, report)
        return pb.GetReportResponse(digest=hashlib.sha256(figures).hexdigest(), figures=figures)

    async def DownloadReport(self, request: Any, call: Call) -> AsyncIterator[Any]:
        (run,) = parse_name(request.run, RUN, field="run")
        page = await self._reports.page(run)
        if page is None:
            raise not_found(f"report of {request.run}")
        for start in range(0, len(page), PIECE_BYTES):
            yield pb.DownloadReportResponse(content=page[start : start + PIECE_BYTES])

    async def _message(self, job: JobRecord) -> Any:
        facts, told = await self._evaluations.facts(job), job.progress
        return pb.Evaluation(
            name=self._desk.name(job.key),
            state=_STATES[job.state] if job.attempt else pb.Evaluation.STATE_PENDING,
            etag=job.etag,
            run=format_name(RUN, job.run),
            arm=facts.arm,
            plan=facts.plan,
            model=facts.model,
            attempt=job.attempt,
            num_judged=int(told.get("num_judged", 0)),
            num_trajectories=int(told.get("num_trajectories", 0)),
            reason=job.reason,
            create_time=timestamp(job.created_s),
            update_time=timestamp(job.updated_s),
        )


def registration(servicer: EvaluatorServicer) -> Registration:
    """What a server needs to serve it."""
    return Registration(
        service=pb.DESCRIPTOR.services_by_name["EvaluatorService"], servicer=servicer, validators=_VALIDATORS
    )


_PACKAGE = "tracemend.api.evaluator.v1"
_NAMED, _OF_RUN = named("name", EVALUATION), named("run", RUN)
_VALIDATORS: Validators = {
    f"{_PACKAGE}.StartEvaluationRequest": check(_OF_RUN, required("arm"), at_most("arm", 128)),
    f"{_PACKAGE}.GetEvaluationRequest": _NAMED,
    f"{_PACKAGE}.WatchEvaluationRequest": check(_NAMED, at_most("cursor", 128)),
    f"{_PACKAGE}.CancelEvaluationRequest": _NAMED,
    f"{_PACKAGE}.GetReportRequest": _OF_RUN,
    f"{_PACKAGE}.DownloadReportRequest": _OF_RUN,
}
