"""The whole loop in one process: prompts in, a report out, every step resumable.

    seal prompts ─► parents: sample ─► judge ─► correct ─► each arm: assemble ─► train ─► evaluate ─► report

The stages are the ones that run on a cluster; only the URLs of bus, store and ledger differ. A run is found again by
what it works on: settings that do not change the work (learning rates, prices) keep its id and repeat only the phases
that depend on them; others open a new run in the same folder, in which equal work answers from the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracemend.corrector.stage import CorrectorStage, TeacherStage
from tracemend.embedded.ancestors import Ancestors
from tracemend.embedded.arms import Arms, checkpoint_target
from tracemend.embedded.budget import Budget
from tracemend.embedded.calibrations import read_calibrations, require_own
from tracemend.embedded.checking import check_corrections
from tracemend.embedded.flows import Flow, Sampler, correct
from tracemend.embedded.goals import Goal
from tracemend.embedded.guarding import check_guards, open_guard
from tracemend.embedded.intake import prompts_of, seal
from tracemend.embedded.locating import TemplateLocator
from tracemend.embedded.measuring import Measurer, benchmark_prompts
from tracemend.embedded.models import Engine, Target, locate_target, open_helpers
from tracemend.embedded.plan import Plan, require_work, resolve
from tracemend.embedded.progress import Observer
from tracemend.embedded.redriving import epochs_of, follow_parent, forget_dead
from tracemend.embedded.reporting import keep_judges, keep_unfinished, write_report
from tracemend.embedded.revisions import ask_again, read_revisions, revised
from tracemend.embedded.runfile import BASE, RunFile
from tracemend.embedded.training import check_trainings, run_training
from tracemend.embedded.validating import Validator
from tracemend.embedded.workspace import Workspace, open_workspace, remember_current
from tracemend.generator.stage import GeneratorStage
from tracemend.judge.service import JudgeService
from tracemend.judge.stage import JudgeStage
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import digest_of
from tracemend.kit.ports import TextModel
from tracemend.records import Checkpoint, DatasetManifest, Prompt, Verdict
from tracemend.trainer.training import TrainingJob

_Work = Callable[[TrainingJob], Coroutine[Any, Any, Checkpoint]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a run leaves behind."""

    run: str
    folder: Path
    report: Path | None
    manifests: Mapping[str, DatasetManifest] = field(default_factory=dict)
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)


class Unfinished(SetupError):
    """Some arms cannot be finished as they are set up; the others, and the report, are there."""

    def __init__(self, reasons: Sequence[str], finished: Finished) -> None:
        super().__init__("\n".join(reasons))
        self.finished = finished


async def run_pipeline(
    settings: RunFile, folder: Path, *, cache: Path, observer: Observer, again: str | None = None, text: str = ""
) -> Finished:
    """Run `settings` in `folder` to the end, or go on where an earlier process stopped.

    `again` names a phase (`sample`, `judge` or `correct`) to do anew, with all that follows from it. `text`, the run
    file as somebody wrote it, is kept beside what it makes.

    Raises:
        SetupError: The user must change something first.
        BudgetSpent: A limit is reached; the same command goes on once it is raised.
    """
    require_work(settings)
    resolve(settings)  # a plan that cannot work leaves no folder behind
    async with open_workspace(folder) as workspace:
        if text:
            workspace.keep_run_file(text)
        if again is not None:
            ask_again(folder, again)
        plan = resolve(revised(settings, read_revisions(folder)))
        return await finish_run(workspace, plan, cache=cache, observer=observer)


async def finish_run(
    workspace: Workspace, plan: Plan, *, cache: Path, observer: Observer, run: str = "", goal: Goal | None = None
) -> Finished:
    """What is left to do of the run that `plan` makes in `workspace`, or what `goal` wants of it. `run` names one that
    others opened and sealed, whose state is theirs to move; left out, the run is found by what it works on. Raises as
    `run_pipeline`."""
    is_ours, began_s, engine = not run, time.monotonic(), Engine()
    async with open_helpers(plan.run.models) as helpers:
        locator = TemplateLocator(lambda: engine.template)
        judge = JudgeService.build(plan.run.judge, helpers, locator=locator)
        calibrations = read_calibrations(plan.run.evaluate.calibration if plan.run.evaluate else {})
        require_own(calibrations, judge.built)
        check_corrections(plan, models=helpers)
        check_guards(plan)
        check_trainings(plan, crew=workspace.crew, goal=goal)
        target = await locate_target(plan.run.target, seed=plan.run.seed, cache=cache, observer=observer)
        identity = await asyncio.to_thread(lambda: target.identity)  # reads the weights
        if is_ours:
            run = run_id(plan, target=identity, helpers=identities_of(helpers))
            await workspace.ledger.open_run(run, plan=await workspace.store.put(plan.content))
            remember_current(workspace.folder, run)
        await keep_judges(workspace, run, judges=judge.identity, calibrations=calibrations)
        budget = Budget(plan.run.limits, ledger=workspace.ledger, run=run, since_s=began_s)
        loop = _Loop(
            workspace,
            run,
            plan,
            helpers=helpers,
            engine=engine,
            judge=judge,
            target=target,
            budget=budget,
            observer=observer,
        )
        try:
            finished = await loop.run(goal)
        except BaseException:
            if is_ours:
                await workspace.ledger.set_state(run, "paused")
            raise
        finally:
            with suppress(asyncio.CancelledError):
                await budget.book()
        if is_ours:
            await workspace.ledger.set_state(run, "done")
        return finished


def identities_of(models: Mapping[str, TextModel]) -> dict[str, str]:
    """The run file's names of models to what their engines call themselves."""
    return {name: model.identity for name, model in models.items()}


def run_id(plan: Plan, *, target: str, helpers: Mapping[str, str] | None = None) -> str:
    """`<name>-<digest of what decides the units>`. `target` is the identity of the target, `helpers` are those of the
    models that judge its samples and write the corrections; where models lie and what serves them is no part."""
    run = plan.run
    arms = {
        arm: (s.from_, s.select.digest(), s.correct.digest() if s.correct else "", s.keep.digest())
        for arm, s in run.arms.items()
    }
    benchmarks = run.evaluate.model_dump(mode="json", include={"benchmarks", "validation"}) if run.evaluate else None
    causes: list[Any] = [run.seed, run.limit, [p.model_dump(mode="json") for p in run.prompts], run.ingestion.digest()]
    sampled = run.target.model_dump(mode="json", exclude={"model", "engine", "engine_options", "served_as"})
    causes += [target, sampled, run.judge.digest(), arms, benchmarks]
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
        engine: Engine,
        judge: JudgeService,
        target: Target,
        budget: Budget,
        observer: Observer,
    ) -> None:
        self.workspace = workspace
        self.run_id = run
        self.plan = plan
        self.helpers = helpers
        self.budget = budget
        self.observer = observer
        self.engine = engine
        self.judge = judge
        self.arms = Arms(workspace=workspace, run=run, plan=plan, judges=self.judge.identity, observer=observer)
        self.targets: dict[str, Target] = {BASE: target}
        self.manifests: dict[str, DatasetManifest] = {}
        self.checkpoints: dict[str, Checkpoint] = {}
        self.verdicts: dict[str, list[Verdict]] = {}
        self.unfinished: dict[str, str] = {}
        """Arms that the user must change something for, and what."""

    async def run(self, goal: Goal | None = None) -> Finished:
        settings = self.plan.run
        benchmarks = benchmark_prompts(settings.evaluate.benchmarks, first=settings.limit) if settings.evaluate else []
        validation = benchmark_prompts(settings.evaluate.validation, first=settings.limit) if settings.evaluate else []
        try:
            if goal is not None:
                return await self._reach(goal, benchmarks, validation)
            return await self._run(benchmarks, validation)
        finally:
            await self.engine.release()

    async def _run(self, benchmarks: list[Prompt], validation: list[Prompt]) -> Finished:
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
            await self._try_arm(arm, benchmarks, validation)
        await self.budget.book()
        await keep_unfinished(self.workspace, self.run_id, self.unfinished)
        report = await write_report(
            self.workspace,
            run=self.run_id,
            plan=self.plan,
            verdicts=self.verdicts,
            manifests=self.manifests,
            checkpoints=self.checkpoints,
            arms=self.arms,
        )
        if self.unfinished:
            raise Unfinished(list(self.unfinished.values()), self._finished(report))
        return self._finished(report)

    async def _reach(self, goal: Goal, benchmarks: list[Prompt], validation: list[Prompt]) -> Finished:
        """Train or measure one arm; the arms that it descends from must be trained."""
        for arm in self.plan.lineage(goal.arm):
            self.targets[arm] = self.targets[self.plan.run.arms[arm].from_]
            if self.plan.run.arms[arm].train is None:
                continue
            is_wanted = arm == goal.arm and not goal.measures
            await self._check_ended(arm)
            await self._assemble(arm)
            if is_wanted and goal.dataset not in ("", self.manifests[arm].id):
                raise SetupError(f"arm '{arm}' has dataset {self.manifests[arm].id} by now: start its training again")
            await self._train(arm, validation, run=self._run_training if is_wanted else _refuse_training)
        if goal.measures:
            await self._measure(goal.arm, benchmarks)
        await self.budget.book()
        return self._finished(None)

    async def _check_ended(self, arm: str) -> None:
        owners = {self.plan.owners[other] for other in self.plan.read_by(arm) if other in self.plan.owners}
        still_open = await self.workspace.ledger.open_prompts(self.run_id, arms=sorted(owners))
        if still_open:
            raise SetupError(f"arm '{arm}' has no whole dataset yet: units of {len(still_open)} prompts have not ended")

    def _finished(self, report: Path | None) -> Finished:
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
        unfinished = await self._unfinished(parent, arms) if arms else set()
        if not unfinished:
            return
        self.observer.phase("sample, judge, correct", total=len(unfinished), note=f"model of arm {parent}")
        settings = self.plan.run
        generator = await self.engine.on(self.targets[parent])
        sampler = Sampler(
            model=generator.identity,
            sampling=settings.target.sampling.record(),
            num_samples=settings.target.samples,
            epochs=await epochs_of(self.workspace, run=self.run_id, arms=arms),
        )
        redriven = prompts_of(self.workspace, self.run_id, among=set(sampler.epochs))
        await forget_dead(self.workspace, redriven, sampler=sampler, judge=self.judge)
        flow = Flow.of_plan(
            self.plan, workspace=self.workspace, run=self.run_id, observer=self.observer, check=self.budget.check
        )
        corrections = self.plan.corrections(parent)
        stages = (
            GeneratorStage(generator),
            JudgeStage(self.judge, self.workspace.results),
            CorrectorStage(
                corrections,
                ancestry=Ancestors(self.judge, self.workspace.results),
                identities=identities_of(self.helpers),
                sampling=sampler.sampling,
            ),
            TeacherStage(corrections, self.helpers),
        )
        prompts = prompts_of(self.workspace, self.run_id, among=unfinished)
        await correct(flow, prompts=prompts, sampler=sampler, stages=stages, arms=arms)

    async def _unfinished(self, parent: str, arms: Sequence[str]) -> set[str]:
        """The prompts with open units of `arms`: all of them again where `parent` has other weights than before."""
        if parent != BASE:  # whose identity is the run's
            model = self._identity(parent)
            await follow_parent(self.workspace, run=self.run_id, parent=parent, model=model, arms=arms)
        return await self.workspace.ledger.open_prompts(self.run_id, arms=arms)

    # ------------------------------------------------------------------------------------------ arms

    async def _try_arm(self, arm: str, benchmarks: list[Prompt], validation: list[Prompt]) -> None:
        """Finish `arm`, or note why it cannot be: that is no reason for arms that do not need it."""
        needed = sorted(self.plan.waits_for(arm) & self.unfinished.keys())
        try:
            if needed:
                raise SetupError(f"arm '{arm}' has to wait for arm {', '.join(needed)}")
            await self._finish_arm(arm, benchmarks, validation)
        except SetupError as obstacle:
            self.unfinished[arm] = str(obstacle)
            self.observer.say(f"{obstacle} (the other arms go on)")

    async def _finish_arm(self, arm: str, benchmarks: list[Prompt], validation: list[Prompt]) -> None:
        settings = self.plan.run.arms[arm]
        await self._assemble(arm)
        if settings.train is not None:
            await self._train(arm, validation, run=self._run_training)
            await self._correct(arm)
        if settings.train is not None or settings.guard is not None:
            await self._measure(arm, benchmarks)

    async def _assemble(self, arm: str) -> None:
        self.targets[arm] = self.targets[self.plan.run.arms[arm].from_]
        if arm in self.plan.owners:
            self.manifests[arm] = await self.arms.publish(arm, target=self.targets[arm])

    async def _train(self, arm: str, validation: list[Prompt], *, run: _Work) -> None:
        parent = self.targets[arm]
        self.checkpoints[arm] = await self.arms.train(
            arm,
            self.manifests[arm],
            target=parent,
            parent=self._identity(self.plan.run.arms[arm].from_),
            train=lambda job: self.budget.over(run(job)),
            score=Validator(measurer=self._measurer(), prompts=validation, target=self.targets[BASE]),
        )
        self.targets[arm] = checkpoint_target(self.checkpoints[arm], root=self.workspace.folder, target=parent)

    async def _run_training(self, job: TrainingJob) -> Checkpoint:
        return await run_training(
            job,
            engine=self.engine,
            observer=self.observer,
            judge=self.plan.run.judge,
            models=self.helpers,
            crew=self.workspace.crew,
        )

    def _identity(self, arm: str) -> str:
        if arm in self.checkpoints:
            return self.checkpoints[arm].model
        return self.targets[arm].identity

    async def _measure(self, arm: str, benchmarks: list[Prompt]) -> None:
        if benchmarks:
            settings = self.plan.run.arms[arm].guard if arm != BASE else None
            guard = open_guard(settings, finder=self.judge.detector) if settings else None
            self.verdicts[arm] = await self._measurer().measure(
                arm, target=self.targets[arm], identity=self._identity(arm), prompts=benchmarks, guard=guard
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


async def _refuse_training(job: TrainingJob) -> Checkpoint:
    raise SetupError(f"arm '{job.arm}' is not trained yet; train it first")
