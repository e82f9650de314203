"""Measuring where a run's traces turn: continuation safety ratios, turning points and what they show as a set.

`tracemend csr` calls it. The engine, template and judge are the run's own; the continuations are booked under a run of
their own in the same folder (`<run>-csr`), so that the run's costs stay those of the run, and are judged on reasoning
and answer apart. Interrupted, the same call goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracemend.embedded.arms import checkpoint_target
from tracemend.embedded.budget import Budget
from tracemend.embedded.choosing import named_verdicts, uncertain_verdicts
from tracemend.embedded.continuing import Continuer, Place, Tally, continue_from
from tracemend.embedded.flows import Flow, Window
from tracemend.embedded.looking import plan_of
from tracemend.embedded.models import Engine, Target, locate_target, open_helpers
from tracemend.embedded.phases import results_of
from tracemend.embedded.plan import Plan
from tracemend.embedded.progress import Observer
from tracemend.embedded.runfile import BASE
from tracemend.embedded.workspace import Workspace, current_run, open_workspace
from tracemend.evaluator.continuation.curves import Change, Curve, Point, bounds_of, change_at, places, step_at
from tracemend.evaluator.continuation.mining import MinedTrigger, TurningSentence, mine
from tracemend.evaluator.continuation.sets import Summary, summarise
from tracemend.evaluator.continuation.settings import ContinuationSettings
from tracemend.evaluator.continuation.turning import Turning, turning_points
from tracemend.evaluator.settings import StatisticsSettings
from tracemend.generator.service import Generator
from tracemend.generator.stage import GeneratorStage
from tracemend.judge.service import JudgeService
from tracemend.judge.settings import JudgeSettings
from tracemend.judge.stage import JudgeStage
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import CueFinder, TextModel
from tracemend.records import Checkpoint, Cue, Finish, Part, Trajectory, Value, Verdict
from tracemend.redaction import Text
from tracemend.traces.template import ChatTemplate

_PATIENCE = 8
"""Times that a detector whose model asks for patience is asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which traces: those with these ids, or those of `uncertain` prompts with mixed samples."""

    trajectories: tuple[str, ...] = ()
    uncertain: int = 0
    per_side: int = 1
    """Unsafe and safe traces of each uncertain prompt."""
    least_share: float = 0.25
    """Share of a prompt's samples that must lie on either side for it to be uncertain."""
    arm: str = BASE
    """Whose model wrote them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One trace."""

    curve: Curve
    steps: tuple[Text, ...]
    turning: Turning
    at_cue: Change | None
    at_trigger: Change | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Everything that was measured, and what it took."""

    run: str
    arm: str
    model: str
    judge: str
    detector: str
    """Empty where the run has none."""
    synthetic: bool
    settings: ContinuationSettings
    traces: tuple[Measured, ...]
    summary: Summary
    mined: tuple[MinedTrigger, ...]
    num_continuations: int
    num_prompt_tokens: int
    num_cached_tokens: int
    """Of the prompt tokens, kept responses included, those that the engine did not compute again."""
    num_new_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trace:
    """A chosen trace before it is measured."""

    verdict: Verdict
    steps: tuple[Text, ...]
    bounds: tuple[int, ...]
    cue: int
    trigger: int
    at: Mapping[int, Place] = field(default_factory=dict)
    """Token to the place that is measured there."""


FindTrigger = Callable[[Sequence[Text]], int]
"""The number, from 1, of the first step that is known to be a safety trigger; 0 for none."""


async def analyse(
    folder: Path,
    asked: Asked,
    settings: ContinuationSettings,
    *,
    cache: Path,
    observer: Observer,
    find_trigger: FindTrigger | None = None,
) -> Analysis:
    """Measure the traces that are `asked` for of the run in `folder`. `find_trigger` knows triggers in traces that
    nobody intervened in.

    Raises:
        SetupError: There is no run, no such trace, or its places cannot be continued from.
        BudgetSpent: The run file's limits are reached by the continuations.
    """
    run = current_run(folder)
    async with open_workspace(folder) as workspace:
        plan = await plan_of(workspace, run)
        async with open_helpers(plan.run.models) as helpers:
            analyser = Analyser(workspace, run, plan, helpers, settings, observer)
            return await analyser.analyse(asked, cache=cache, find_trigger=find_trigger)


class Analyser:
    """One call's way through a run's traces."""

    def __init__(
        self,
        workspace: Workspace,
        run: str,
        plan: Plan,
        helpers: Mapping[str, TextModel],
        settings: ContinuationSettings,
        observer: Observer,
    ) -> None:
        self.workspace = workspace
        self.run = run
        self.plan = plan
        self.settings = settings
        self.observer = observer
        self.runs_judge = JudgeService.build(plan.run.judge, helpers)
        self.judge = JudgeService.build(_of_parts(plan.run.judge), helpers)
        evaluate = plan.run.evaluate
        self.statistics = evaluate.statistics if evaluate else StatisticsSettings()

    async def analyse(self, asked: Asked, *, cache: Path, find_trigger: FindTrigger | None = None) -> Analysis:
        """Open the model that wrote the traces, choose them and measure them."""
        target = await self._target(asked.arm, cache)
        assert target.folder is not None, "only a model in a folder gets here"
        template = ChatTemplate.load(target.folder, target.settings.reasoning_format)
        engine = Engine()
        try:
            generator = await engine.on(target)
            verdicts = await self._chosen(asked, generator.identity)
            return await self.measure(verdicts, generator, template, arm=asked.arm, find_trigger=find_trigger)
        finally:
            await engine.release()

    async def measure(
        self,
        verdicts: Sequence[Verdict],
        generator: Generator,
        template: ChatTemplate,
        *,
        arm: str = BASE,
        find_trigger: FindTrigger | None = None,
    ) -> Analysis:
        """Draw and judge continuations of the trajectories of `verdicts` by the `generator` that wrote them."""
        traces = [await self._trace(verdict, template, find_trigger) for verdict in verdicts]
        tallies = await self._draw(generator, traces)
        return self._analysis(arm, generator.identity, traces, tallies)

    async def _target(self, arm: str, cache: Path) -> Target:
        settings = self.plan.run
        if arm not in {BASE, *settings.arms}:
            raise SetupError(f"this run has no arm '{arm}', only {', '.join([BASE, *settings.arms])}")
        target = await locate_target(settings.target, seed=settings.seed, cache=cache, observer=self.observer)
        if target.folder is None:
            raise SetupError(
                f"target.engine is '{settings.target.engine}': traces are continued from their token ids, which only a "
                "model in a local folder takes; use engine transformers or vllm"
            )
        if arm == BASE:
            return target
        if settings.arms[arm].train is None:
            raise SetupError(
                f"arm '{arm}' has no model of its own; its samples are those of '{settings.arms[arm].from_}'"
            )
        trained = (await results_of(self.workspace, self.run)).get(f"train:{arm}")
        if trained is None:
            raise SetupError(f"arm '{arm}' has no checkpoint yet; `tracemend run` trains it")
        return checkpoint_target(Checkpoint(**trained), root=self.workspace.folder, target=target)

    async def _chosen(self, asked: Asked, model: str) -> list[Verdict]:
        roles = self.runs_judge.identity
        judges = [roles[role] for role in ("harm", "verifier") if role in roles]
        if asked.uncertain:
            return await uncertain_verdicts(
                self.workspace,
                asked.uncertain,
                model=model,
                judges=judges,
                per_side=asked.per_side,
                least_share=asked.least_share,
            )
        verdicts = await named_verdicts(self.workspace, asked.trajectories, judges=judges)
        for trajectory in (verdict.trajectory for verdict in verdicts):
            if trajectory.model != model:
                raise SetupError(f"{trajectory.id} was not written by the model of arm '{asked.arm}'; name its --arm")
            if not trajectory.token_ids or trajectory.finish in (Finish.DEAD, Finish.FILTERED):
                raise SetupError(f"{trajectory.id} has no token ids to continue from")
        return verdicts

    async def _trace(self, verdict: Verdict, template: ChatTemplate, find_trigger: FindTrigger | None) -> _Trace:
        trajectory = verdict.trajectory
        ids, words = trajectory.token_ids, trajectory.reasoning.reveal()
        numbered = template.reasoning_steps(ids)
        bounds = bounds_of(numbered, end=trajectory.reasoning_tokens.end)
        steps = tuple(Text(words[step.chars.start : step.chars.end]) for step in numbered)
        cue = await self._cue(verdict)
        kept = {token: Place.of(trajectory.prompt, ids[:token]) for token in places(bounds, every=self.settings.every)}
        inserted = _inserted(trajectory, bounds)
        known = find_trigger(steps) if find_trigger is not None and not inserted else inserted
        return _Trace(verdict=verdict, steps=steps, bounds=bounds, cue=cue, trigger=known, at=kept)

    async def _cue(self, verdict: Verdict) -> int:
        """The step of the trace's first cue, as its verdict has it or as the run's detector finds it now."""
        if verdict.cue is not None:
            return verdict.cue.step
        detector = self.runs_judge.detector
        if detector is None:
            return -1
        return (await _patiently(detector, verdict.trajectory)).step

    async def _draw(self, generator: Generator, traces: Sequence[_Trace]) -> Mapping[str, Tally]:
        asked = [place for trace in traces for place in trace.at.values()]
        self.observer.phase("continuations", total=len({place.id for place in asked}), note="places")
        run, settings = f"{self.run}-csr", self.plan.run
        await self.workspace.ledger.open_run(run, plan=await self.workspace.store.put(self.plan.content))
        budget = Budget(settings.limits, ledger=self.workspace.ledger, run=run)
        concurrency, num_each = settings.resources.concurrency, self.settings.continuations
        flow = Flow(
            workspace=self.workspace,
            run=run,
            plan=self.plan.blob,
            observer=self.observer,
            check=budget.check,
            concurrency=concurrency,
            window=Window(2 + concurrency // num_each),  # enough to fill the engine, few enough to share its cache
        )
        continuer = Continuer(
            model=generator.identity, sampling=settings.target.sampling.record(), num_continuations=num_each
        )
        stages = (GeneratorStage(generator), JudgeStage(self.judge, self.workspace.results))
        try:
            return await continue_from(flow, asked, continuer=continuer, stages=stages)
        finally:
            await budget.book()

    def _analysis(self, arm: str, model: str, traces: Sequence[_Trace], tallies: Mapping[str, Tally]) -> Analysis:
        measured = tuple(self._measured(trace, tallies) for trace in traces)
        drawn = {place.id: tallies[place.id] for trace in traces for place in trace.at.values()}.values()
        detector = self.runs_judge.detector
        return Analysis(
            run=self.run,
            arm=arm,
            model=model,
            judge=self.judge.identity["harm"],
            detector=detector.identity if detector else "",
            synthetic=self.plan.run.target.model.startswith("proving:"),
            settings=self.settings,
            traces=measured,
            summary=summarise([trace.curve for trace in measured], self.settings, self.statistics),
            mined=mine(sentence for trace in measured if (sentence := self._turning_sentence(trace)) is not None),
            num_continuations=sum(len(tally.values) for tally in drawn),
            num_prompt_tokens=sum(tally.num_prompt_tokens for tally in drawn),
            num_cached_tokens=sum(tally.num_cached_tokens for tally in drawn),
            num_new_tokens=sum(tally.num_new_tokens for tally in drawn),
        )

    def _measured(self, trace: _Trace, tallies: Mapping[str, Tally]) -> Measured:
        verdict = trace.verdict
        points = tuple(
            Point(
                token=token,
                reasoning=tallies[place.id].counts(Part.REASONING),
                answer=tallies[place.id].counts(Part.ANSWER),
            )
            for token, place in trace.at.items()
        )
        curve = Curve(
            trajectory=verdict.trajectory.id,
            prompt=verdict.trajectory.prompt.id,
            value=verdict.reasoning.value,
            bounds=trace.bounds,
            points=points,
            cue=trace.cue,
            trigger=trace.trigger,
        )
        confidence = self.statistics.confidence
        return Measured(
            curve=curve,
            steps=trace.steps,
            turning=turning_points(curve, self.settings),
            at_cue=change_at(curve, curve.cue, confidence=confidence),
            at_trigger=change_at(curve, curve.trigger, confidence=confidence),
        )

    def _turning_sentence(self, trace: Measured) -> TurningSentence | None:
        """The sentence that a safe trace turned to safety in; None where it did not, or before its first."""
        turn = trace.turning.safe
        step = trace.curve.step_of(turn) if turn is not None else 0
        if trace.curve.value is not Value.SAFE or step == 0:
            return None
        change = change_at(trace.curve, step, confidence=self.statistics.confidence)
        return TurningSentence(
            text=trace.steps[step - 1], prompt=trace.curve.prompt, rise=change.value if change else 0.0
        )


def _of_parts(settings: JudgeSettings) -> JudgeSettings:
    """The same judge of harm for continuations: on reasoning and answer alone, the same for all, without a detector,
    whose finding on a continuation nobody reads."""
    parts = tuple(part for part in settings.harm.parts if part is not Part.WHOLE)
    if Part.REASONING not in parts:
        raise SetupError("judge.harm.parts leaves the reasoning out, whose harm the ratio counts; add it there")
    harm = settings.harm.model_copy(update={"parts": parts})
    counted = tuple(part for part in settings.harm_parts if part in parts) or (Part.REASONING,)
    return settings.model_copy(update={"harm": harm, "harm_parts": counted, "detector": None, "verifier": None})


def _inserted(trajectory: Trajectory, bounds: tuple[int, ...]) -> int:
    """The step that begins with the trigger that was inserted into a fork; 0 for what is no fork."""
    made = trajectory.intervention
    return step_at(bounds, made.cut_token + 1) if made is not None and made.kind == "trigger" else 0


async def _patiently(detector: CueFinder, trajectory: Trajectory) -> Cue:
    for _ in range(_PATIENCE):
        try:
            return await detector.find(trajectory.prompt, trajectory.reasoning)
        except Retry as busy:
            await asyncio.sleep(busy.after_s)
    return await detector.find(trajectory.prompt, trajectory.reasoning)
