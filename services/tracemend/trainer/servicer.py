"""The gRPC face of training: trainings that are started, watched and cancelled.

Registered by the trainer program, which hands in how a request becomes a job (`Trainings`) and who works it off. What
is asked again is the same training; what an older attempt still says is refused by the job table.
"""
# ruff: noqa: N802 - methods are called what the proto calls them

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from tracemend.api.trainer.v1 import trainer_service_pb2 as pb
from tracemend.kit.server_ports import JobRecord, Jobs, JobState
from tracemend.records import Checkpoint
from tracemend.runtime.job_desk import RUN, JobDesk, JobTerms, Worker
from tracemend.runtime.messages import message_of, timestamp
from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.names import format_name, parse_name
from tracemend.runtime.rpc.pages import Pages
from tracemend.runtime.rpc.server import Registration
from tracemend.runtime.rpc.validators import Validators, at_most, check, named, required

KIND = "training"
TRAINING = "trainings/{training}"
_STATES = {
    JobState.RUNNING: pb.Training.STATE_RUNNING,
    JobState.DONE: pb.Training.STATE_SUCCEEDED,
    JobState.FAILED: pb.Training.STATE_FAILED,
    JobState.CANCELLED: pb.Training.STATE_CANCELLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """What a training is about, beside its job."""

    arm: str
    plan: str
    """Digest of the run's plan."""
    dataset: str
    """Id of the dataset version."""
    checkpoint: Checkpoint | None = None
    """Once the job is done."""


class Trainings(Protocol):
    """What a program knows of trainings and the servicer does not."""

    async def terms(self, *, run: str, arm: str, dataset: str) -> JobTerms:
        """The job that trains `arm` on a dataset version, its newest where `dataset` is empty. Raises `Fault`
        (`not_found`) for what does not exist, `SetupError` where the arm does not train."""
        ...

    async def facts(self, job: JobRecord) -> TrainingFacts: ...


class TrainerServicer:
    """`tracemend.api.trainer.v1.TrainerService`."""

    def __init__(self, trainings: Trainings, *, jobs: Jobs, worker: Worker, pages: Pages) -> None:
        self._trainings = trainings
        self._desk = JobDesk(jobs, worker, kind=KIND, pattern=TRAINING, pages=pages)

    async def StartTraining(self, request: Any, call: Call) -> Any:
        (run,) = parse_name(request.run, RUN, field="run")
        terms = await self._trainings.terms(run=run, arm=request.arm, dataset=request.dataset)
        job = await self._desk.start(terms, submitted_by=call.caller.name, validate_only=request.validate_only)
        return pb.StartTrainingResponse(training=await self._message(job))

    async def GetTraining(self, request: Any, call: Call) -> Any:
        return pb.GetTrainingResponse(training=await self._message(await self._desk.find(request.name)))

    async def ListTrainings(self, request: Any, call: Call) -> Any:
        jobs, token = await self._desk.page(request)
        return pb.ListTrainingsResponse(trainings=[await self._message(job) for job in jobs], next_page_token=token)

    async def WatchTraining(self, request: Any, call: Call) -> AsyncIterator[Any]:
        async for job, cursor in self._desk.watch(request.name, cursor=request.cursor):
            yield pb.WatchTrainingResponse(training=await self._message(job), cursor=cursor)

    async def CancelTraining(self, request: Any, call: Call) -> Any:
        job = await self._desk.cancel(request.name, etag=request.etag)
        return pb.CancelTrainingResponse(training=await self._message(job))

    async def _message(self, job: JobRecord) -> Any:
        facts, told = await self._trainings.facts(job), job.progress
        return pb.Training(
            name=self._desk.name(job.key),
            state=_STATES[job.state] if job.attempt else pb.Training.STATE_PENDING,
            etag=job.etag,
            run=format_name(RUN, job.run),
            arm=facts.arm,
            plan=facts.plan,
            dataset=facts.dataset,
            attempt=job.attempt,
            step=int(told.get("step", 0)),
            num_steps=int(told.get("num_steps", 0)),
            loss=told.get("loss", 0.0),
            reason=job.reason,
            create_time=timestamp(job.created_s),
            update_time=timestamp(job.updated_s),
            checkpoint=message_of(facts.checkpoint) if facts.checkpoint is not None else None,
        )


def registration(servicer: TrainerServicer) -> Registration:
    """What a server needs to serve it."""
    return Registration(
        service=pb.DESCRIPTOR.services_by_name["TrainerService"], servicer=servicer, validators=_VALIDATORS
    )


_PACKAGE = "tracemend.api.trainer.v1"
_NAMED = named("name", TRAINING)
_VALIDATORS: Validators = {
    f"{_PACKAGE}.StartTrainingRequest": check(
        named("run", RUN), required("arm"), at_most("arm", 128), at_most("dataset", 128)
    ),
    f"{_PACKAGE}.GetTrainingRequest": _NAMED,
    f"{_PACKAGE}.WatchTrainingRequest": check(_NAMED, at_most("cursor", 128)),
    f"{_PACKAGE}.CancelTrainingRequest": _NAMED,
}
