"""What the trainer's and the evaluator's servicers ask: what a job works from, what it is about, where reports lie.

A job's terms are a blob in the store, whose digest the job table keeps: the run, the arm, what else decides the work.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tracemend.embedded.phases import latest
from tracemend.embedded.plan import Plan
from tracemend.embedded.runfile import BASE, ArmSettings
from tracemend.evaluator.servicer import KIND as EVALUATION
from tracemend.evaluator.servicer import EvaluationFacts
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import canonical, make_id
from tracemend.kit.registry import did_you_mean
from tracemend.kit.server_ports import JobRecord, JobState
from tracemend.programs.coordinating import KIND as REST
from tracemend.programs.parts import Parts
from tracemend.records import Checkpoint
from tracemend.runtime.job_desk import JobTerms
from tracemend.runtime.rpc.faults import not_found, precondition
from tracemend.trainer.servicer import KIND as TRAINING
from tracemend.trainer.servicer import TrainingFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTrainings:
    """`trainer.servicer.Trainings`."""

    parts: Parts

    async def terms(self, *, run: str, arm: str, dataset: str) -> JobTerms:
        digest, plan = await _plan_of(self.parts, run)
        if _arm(plan, arm).train is None:
            raise SetupError(f"arm '{arm}' of run {run} trains nothing: its run file gives it no `train` section")
        manifest = await latest(self.parts.workspace, run, f"assemble:{arm}")
        if manifest is None or dataset not in ("", manifest["id"]):
            raise not_found(f"dataset version '{dataset[:64]}' of arm '{arm}'" if dataset else f"dataset of '{arm}'")
        about = {"run": run, "arm": arm, "plan": digest, "dataset": manifest["id"]}
        return await _kept_terms(self.parts, TRAINING, about)

    async def facts(self, job: JobRecord) -> TrainingFacts:
        about = await _about(self.parts, job)
        checkpoint = None
        if job.state is JobState.DONE:
            fields = await latest(self.parts.workspace, job.run, f"train:{about['arm']}")
            checkpoint = Checkpoint(**fields) if fields is not None else None
        return TrainingFacts(arm=about["arm"], plan=about["plan"], dataset=about["dataset"], checkpoint=checkpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvaluations:
    """`evaluator.servicer.Evaluations`."""

    parts: Parts

    async def terms(self, *, run: str, arm: str) -> JobTerms:
        digest, plan = await _plan_of(self.parts, run)
        if plan.run.evaluate is None:
            raise SetupError(f"run {run} measures nothing: its run file has no `evaluate` section")
        if arm != BASE:
            _arm(plan, arm)
        for parent in plan.lineage(arm):
            if plan.run.arms[parent].train and await latest(self.parts.workspace, run, f"train:{parent}") is None:
                raise precondition("NOT_TRAINED", f"arm '{parent}' is not trained yet; train it first")
        # Trained again on other rows, an arm is another model, and measuring it is other work.
        trained = await latest(self.parts.workspace, run, f"train:{arm}")
        about = {"run": run, "arm": arm, "plan": digest, "model": trained["model"] if trained else ""}
        return await _kept_terms(self.parts, EVALUATION, about)

    async def facts(self, job: JobRecord) -> EvaluationFacts:
        about = await _about(self.parts, job)
        return EvaluationFacts(arm=about["arm"], plan=about["plan"], model=about["model"])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReports:
    """`evaluator.servicer.Reports`: what the job that ended a run left, though some arms could not be finished."""

    parts: Parts

    async def figures(self, run: str) -> bytes | None:
        return await self._report(run, "report.json")

    async def page(self, run: str) -> bytes | None:
        return await self._report(run, "report.html")

    async def _report(self, run: str, name: str) -> bytes | None:
        store = self.parts.workspace.store
        ended = await self.parts.tables.jobs.page(kind=REST, run=run, states={JobState.DONE, JobState.FAILED})
        left = next((job.address for job in ended if job.address is not None), None)
        if left is None:
            return None
        digest = json.loads(await store.get(left.pack))["reports"].get(name)
        return await store.get(digest) if digest is not None else None


async def _plan_of(parts: Parts, run: str) -> tuple[str, Plan]:
    record = await parts.tables.runs.get(run)
    if record is None:
        raise not_found(f"runs/{run}")
    counted = await parts.workspace.ledger.intake(run)
    if counted is None:
        raise precondition("NOT_SEALED", "the run's prompts are not admitted yet", name=f"runs/{run}")
    return record.plan, await parts.plans.get(record.plan)


def _arm(plan: Plan, arm: str) -> ArmSettings:
    if arm not in plan.run.arms:
        raise not_found(f"arm '{arm[:64]}'{did_you_mean(arm, sorted(plan.run.arms))}")
    return plan.run.arms[arm]


async def _kept_terms(parts: Parts, kind: str, about: dict[str, str]) -> JobTerms:
    digest = await parts.workspace.store.put(canonical(about))
    return JobTerms(key=make_id(kind, about), plan=digest, run=about["run"])


async def _about(parts: Parts, job: JobRecord) -> Any:
    return json.loads(await parts.workspace.store.get(job.plan))
