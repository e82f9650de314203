"""The whole loop in one process: prompts in, a report out, every step resumable.

    seal prompts ─► parents: sample ─► judge ─► correct ─► each arm: assemble ─► train ─► evaluate ─► report

The stages are the ones that run on a cluster; only the URLs of bus, store and ledger differ. A run is found again by
what it works on: settings that do not change the work (learning rates, prices) keep its id and repeat only the phases
that depend on them; others open a new run in the same folder, in which equal work answers from the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracemend.corrector.decide import check_plan
from tracemend.corrector.stage import CorrectorStage, TeacherStage
from tracemend.embedded.ancestors import Ancestors
from tracemend.embedded.arms import Arms, checkpoint_target
from tracemend.embedded.budget import Budget
from tracemend.embedded.flows import Flow, Sampler, Window, correct
from tracemend.embedded.intake import prompts_of, seal
from tracemend.embedded.measuring import Measurer, benchmark_prompts
from tracemend.embedded.models import Engine, Target, locate_target, open_helpers, target_name
from tracemend.embedded.plan import Plan, resolve
from tracemend.embedded.progress import Observer
from tracemend.embedded.reporting import write_report
from tracemend.embedded.revisions import ask_again, read_revisions, revised
from tracemend.embedded.runfile import BASE, RunFile
from tracemend.embedded.training import run_training
from tracemend.embedded.workspace import Workspace, open_workspace, remember_current
from tracemend.evaluator.service import headline
from tracemend.generator.stage import GeneratorStage
from tracemend.judge.service import JudgeService
from tracemend.judge.stage import JudgeStage
from tracemend.kit.ids import digest_of
from tracemend.kit.ports import TextModel
from tracemend.records import Checkpoint, DatasetManifest, Prompt, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a run leaves behind."""

    run: str
    folder: Path
    report: Path | None
    manifests: Mapping[str, DatasetManifest] = field(default_factory=dict)
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)


async def run_pipeline(
    settings: RunFile, folder: Path, *, cache: Path, observer: Observer, again: str | None = None
) -> Finished:
    """Run `settings` in `folder` to the end, or go on where an earlier process stopped.

    `again` names a phase (`sample`, `judge` or `correct`) to do anew, with all that follows from it.

    Raises:
        SetupError: The user must change something first.
        BudgetSpent: A limit is reached; the same command goes on once it is raised.
    """
    resolve(settings)  # a plan that cannot work leaves no folder behind
    async with open_workspace(folder) as workspace:
        if again is not None:
            ask_again(folder, again)
        plan = resolve(revised(settings, read_revisions(folder)))
        async with open_helpers(settings.models) as helpers:
            run = run_id(plan, helpers={name: model.identity for name, model in helpers.items()})
            await workspace.ledger.open_run(run, plan=await workspace.store.put(plan.content))
            remember_current(folder, run)
            budget = Budget(settings.limits, ledger=workspace.ledger, run=run)
            try:
                loop = _Loop(workspace, run, plan, helpers=helpers, budget=budget, observer=observer, cache=cache)
                finished = await loop.run()
            except BaseException:
                await workspace.ledger.set_state(run, "paused")
                raise
            finally:
                with suppress(asyncio.CancelledError):
                    await budget.book()
            await workspace.ledger.set_state(run, "done")
            return finished


def run_id(plan: Plan, *, helpers: Mapping[str, str] | None = None) -> str:
    """`<name>-<digest of what decides the units>`; `helpers` are the identities of the models beside the target, which
    judge the samples and write the corrections."""
    run = plan.run
    arms = {
        arm: (s.from_, s.select.digest(), s.correct.digest() if s.correct else "", s.keep.digest())
        for arm, s in run.arms.items()
    }
    benchmarks = run.evaluate.model_dump(mode="json", include={"benchmarks", "validation"}) if run.evaluate else None
    causes: list[Any] = [run.seed, run.limit, [p.model_dump(mode="json") for p in run.prompts], run.ingestion.digest()]
    causes += [target_name(run.target), run.target.digest(), run.judge.digest(), arms, benchmarks]
    causes += [helpers or {}]
    if any(settings.from_ != BASE for settings in run.arms.values()):  # then what an arm trains decides others' units
        trained = {arm: (s.assemble.digest(), s.train.digest() if s.train else "") for arm, s in run.arms.items()}
        chosen_by = run.evaluate.model_dump(mode="json", include={"samples", "sampling"}) if run.evaluate else None
        causes += [trained, chosen_by]
    return f"{run.name}-{digest_of(causes)[:10]}"


class _Loop:
    """One process's way through a run."""

    def __init__(
        self,
        workspace: Workspace,
        run: str,
        plan: Plan,
        *,
        helpers: Mapping[str, TextModel],
        budget: Budget,
        observer: Observer,
        cache: Path,
    ) -> None:
        self.workspace = workspace
        self.run_id = run
        self.plan = plan
        self.helpers = helpers
        self.budget = budget
        self.observer = observer
        self.cache = cache
        self.engine = Engine()
        self.judge = JudgeService.build(plan.run.judge, helpers)
        self.arms = Arms(workspace=workspace, run=run, plan=plan, judges=self.judge.identity, observer=observer)
        self.targets: dict[str, Target] = {}
        self.manifests: dict[str, DatasetManifest] = {}
        self.checkpoints: dict[str, Checkpoint] = {}
        self.verdicts: dict[str, list[Verdict]] = {}

    async def run(self) -> Finished:
        try:
            return await self._run()
        finally:
            await self.engine.release()

    async def _run(self) -> Finished:
        settings = self.plan.run
        for parent in self.plan.parents():
            check_plan(self.plan.corrections(parent), models=self.helpers)
        target = await locate_target(settings.target, seed=settings.seed, cache=self.cache, observer=self.observer)
        self.targets[BASE] = target
        benchmarks = benchmark_prompts(settings.evaluate.benchmarks, first=settings.limit) if settings.evaluate else []
        validation = benchmark_prompts(settings.evaluate.validation, first=settings.limit) if settings.evaluate else []
        await seal(
            self.workspace,
            run=self.run_id,
            plan=self.plan,
            benchmarks=[*benchmarks, *validation],
            observer=self.observer,
        )
        await self._correct(BASE)
        await self._measure(BASE, benchmarks)
        for arm in self.plan.order:
            await self._finish_arm(arm, benchmarks, validation)
        await self.budget.book()
        report = await write_report(
            self.workspace,
            run=self.run_id,
            plan=self.plan,
            judges=self.judge.identity,
            verdicts=self.verdicts,
            manifests=self.manifests,
            checkpoints=self.checkpoints,
            arms=self.arms,
        )
        return Finished(
            run=self.run_id,
            folder=self.workspace.folder,
            report=report,
            manifests=self.manifests,
            checkpoints=self.checkpoints,
        )

    # ------------------------------------------------------------------------------------ correction

    async def _correct(self, parent: str) -> None:
        """Sample, judge and correct for the arms that start from `parent`."""
        arms = self.plan.owned_by(parent)
        ledger = self.workspace.ledger
        unfinished = await ledger.open_prompts(self.run_id, arms=arms) if arms else set()
        if not unfinished:
            return
        self.observer.phase("sample, judge, correct", total=len(unfinished), note=f"model of arm {parent}")
        settings = self.plan.run
        generator = await self.engine.on(self.targets[parent])
        sampler = Sampler(
            model=generator.identity, sampling=settings.target.sampling.record(), num_samples=settings.target.samples
        )
        flow = Flow(
            workspace=self.workspace,
            run=self.run_id,
            plan=self.plan.digest,
            observer=self.observer,
            check=self.budget.check,
            concurrency=settings.resources.concurrency,
            window=Window(settings.limits.unfinished_prompts),
        )
        corrections = self.plan.corrections(parent)
        identities = {name: model.identity for name, model in self.helpers.items()}
        stages = (
            GeneratorStage(generator),
            JudgeStage(self.judge, self.workspace.results),
            CorrectorStage(corrections, ancestry=Ancestors(self.judge, self.workspace.results), identities=identities),
            TeacherStage(corrections, self.helpers),
        )
        prompts = prompts_of(self.workspace, self.run_id, among=unfinished)
        await correct(flow, prompts=prompts, sampler=sampler, stages=stages, arms=arms)

    # ------------------------------------------------------------------------------------------ arms

    async def _finish_arm(self, arm: str, benchmarks: list[Prompt], validation: list[Prompt]) -> None:
        settings = self.plan.run.arms[arm]
        parent = self.targets[settings.from_]
        self.targets[arm] = parent
        if arm in self.plan.owners:
            self.manifests[arm] = await self.arms.publish(arm)
        if settings.train is not None:
            measurer = self._measurer()

            async def score(name: str, target: Target, identity: str) -> dict[str, float]:
                verdicts = await measurer.measure(
                    name, target=target, identity=identity, prompts=validation, what="validate"
                )
                return headline(verdicts)

            self.checkpoints[arm] = await self.arms.train(
                arm,
                self.manifests[arm],
                target=parent,
                parent=self._identity(settings.from_),
                train=lambda job: run_training(job, engine=self.engine, observer=self.observer),
                score=score,
            )
            folder = self.workspace.folder
            self.targets[arm] = checkpoint_target(self.checkpoints[arm], root=folder, target=parent)
            await self._correct(arm)
            await self._measure(arm, benchmarks)

    def _identity(self, arm: str) -> str:
        if arm in self.checkpoints:
            return self.checkpoints[arm].model
        return self.targets[arm].identity

    async def _measure(self, arm: str, benchmarks: list[Prompt]) -> None:
        if benchmarks:
            self.verdicts[arm] = await self._measurer().measure(
                arm, target=self.targets[arm], identity=self._identity(arm), prompts=benchmarks
            )

    def _measurer(self) -> Measurer:
        return Measurer(
            workspace=self.workspace,
            run=self.run_id,
            plan=self.plan,
            engine=self.engine,
            judge=self.judge,
            observer=self.observer,
            check=self.budget.check,
        )
