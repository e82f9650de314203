"""Measuring an arm: its checkpoint samples the benchmarks, the judges grade, the verdicts' work keys are the result."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence

from tracemend.embedded.flows import Check, Flow, Sampler, sample
from tracemend.embedded.guarding import guarded
from tracemend.embedded.models import Engine, Target
from tracemend.embedded.phases import once
from tracemend.embedded.plan import Plan
from tracemend.embedded.progress import Observer
from tracemend.embedded.runfile import BenchmarkSettings
from tracemend.embedded.sourcing import read
from tracemend.embedded.workspace import Workspace
from tracemend.evaluator.service import ALL
from tracemend.generator.guarding import Guard
from tracemend.generator.stage import GeneratorStage
from tracemend.ingestion.service import Admitted, ingest
from tracemend.ingestion.settings import IngestionSettings
from tracemend.judge.service import JudgeService
from tracemend.judge.stage import JudgeStage
from tracemend.kit.errors import SetupError
from tracemend.kit.results import Results
from tracemend.records import Prompt, Verdict

_VALIDATION_ONLY = IngestionSettings(
    max_chars=1_000_000, filters={"exact_duplicates": False, "near_duplicates": False, "decontamination": False}
)
"""Published benchmarks are measured whole: their own duplicates count as their authors count them."""


def benchmark_prompts(benchmarks: Mapping[str, BenchmarkSettings], *, first: int | None = None) -> list[Prompt]:
    """The prompts of `benchmarks`, each under its split, `first` of each where that is given; a `SetupError` for a
    benchmark that holds bad rows."""
    prompts: list[Prompt] = []
    for name, benchmark in benchmarks.items():
        rows = ingest(read([benchmark.prompts]), settings=_VALIDATION_ONLY)
        limits = [limit for limit in (benchmark.limit, first) if limit is not None]
        taken, split = 0, benchmark.split or name
        if split == ALL:
            raise SetupError(f"benchmark '{name}': '{ALL}' is what the report calls all splits together; rename it")
        for item in rows:
            if not isinstance(item, Admitted):
                raise SetupError(f"benchmark '{name}', {item.where}: {item.reason}: {item.detail}")
            if limits and taken == min(limits):
                break
            taken += 1
            prompts.append(dataclasses.replace(item.prompt, split=split))
        if taken == 0:
            raise SetupError(f"benchmark '{name}' has no prompts")
    return prompts


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measurer:
    """Measures checkpoints of one run, all with the same judges and decoding."""

    workspace: Workspace
    run: str
    plan: Plan
    engine: Engine
    judge: JudgeService
    observer: Observer
    check: Check

    async def measure(
        self,
        arm: str,
        *,
        target: Target,
        identity: str,
        prompts: Sequence[Prompt],
        what: str = "evaluate",
        guard: Guard | None = None,
    ) -> list[Verdict]:
        """The verdicts on `target`'s samples of `prompts`, in their order and then by sample; done once per model and
        the guard over it."""
        inputs = [identity, [p.id for p in prompts], self._decoding(), self.judge.identity]
        inputs += [guard.identity] if guard else []
        keys = await once(
            self.workspace, self.run, f"{what}:{arm}", inputs, lambda: self._sample(arm, target, prompts, what, guard)
        )
        return await stored_verdicts(self.workspace.results, keys, prompts)

    async def _sample(
        self, arm: str, target: Target, prompts: Sequence[Prompt], what: str, guard: Guard | None
    ) -> dict[str, list[str]]:
        settings = self.plan.run
        assert settings.evaluate is not None
        distinct = list({prompt.id: prompt for prompt in prompts}.values())
        self.observer.phase(f"{what} {arm}", total=len(distinct))
        generator = guarded(await self.engine.on(target), guard)
        sampling = (settings.evaluate.sampling or settings.target.sampling).record()
        sampler = Sampler(model=generator.identity, sampling=sampling, num_samples=settings.evaluate.samples)
        flow = Flow.of_plan(self.plan, workspace=self.workspace, run=self.run, observer=self.observer, check=self.check)
        stages = (GeneratorStage(generator), JudgeStage(self.judge, self.workspace.results))
        verdicts = await sample(flow, prompts=_each(distinct), sampler=sampler, stages=stages)
        keys: dict[str, list[str]] = {prompt.id: [] for prompt in distinct}
        for verdict in verdicts:
            prompt = verdict.trajectory.prompt
            keys[prompt.id].append(self.judge.work_key(verdict.trajectory.id, prompt))
        return keys

    def _decoding(self) -> dict[str, object]:
        evaluate = self.plan.run.evaluate
        assert evaluate is not None
        sampling = evaluate.sampling or self.plan.run.target.sampling
        return {"samples": evaluate.samples, **sampling.model_dump(mode="json")}


async def stored_verdicts(
    results: Results, keys: Mapping[str, Sequence[str]], prompts: Sequence[Prompt]
) -> list[Verdict]:
    """Verdicts from the store, by the work keys that a measurement left (prompt id → keys), in the order of `prompts`.

    Their prompts are put back from `prompts`: work keys know a prompt by its text, and one text may stand in several
    splits. `SetupError` where the prompts are not the measured ones any more.
    """
    verdicts: list[Verdict] = []
    for prompt in prompts:
        if prompt.id not in keys:
            raise SetupError(
                f"{prompt.id} of split '{prompt.split}' was not measured: the benchmark's file has changed"
            )
        records = await results.records(keys[prompt.id])
        for key in keys[prompt.id]:
            (verdict,) = records[key]
            trajectory = dataclasses.replace(verdict.trajectory, prompt=prompt)
            verdicts.append(dataclasses.replace(verdict, trajectory=trajectory))
    return verdicts


async def _each(prompts: Sequence[Prompt]) -> AsyncIterator[Prompt]:
    for prompt in prompts:
        yield prompt
