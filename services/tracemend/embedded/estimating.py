"""What a run will take, before anything is spent: tokens, money, hours, rows, memory per GPU.

    cost ≈ N·K·(gen + judge) + U·A·(correct + 2·judge) + V·R·(gen + judge + detect) + V·detect

(methods.md §5 H) with N prompts, K samples, U units that a strong model writes for and A attempts at each, V unsafe
samples that are forked and R rounds of it. Every figure that the run file does not give is an assumption with a name,
printed beside the result; none of them is measured. Pairs are counted by both sides in full, as if they shared nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tracemend.corrector.decide import arm_units, plan_units, strategy_for
from tracemend.corrector.settings import ArmCorrection, Rule
from tracemend.corrector.strategies.contrast import Contrast
from tracemend.corrector.strategies.refused import Refused
from tracemend.corrector.strategy import Strategy
from tracemend.embedded.assumptions import Assumptions
from tracemend.embedded.memory import MemoryNeed, memory_needs
from tracemend.embedded.plan import Plan, resolve
from tracemend.embedded.runfile import BenchmarkSettings, RunFile
from tracemend.embedded.sourcing import read
from tracemend.ingestion.rows import BadRow
from tracemend.ingestion.settings import PromptsSettings
from tracemend.judge.settings import HarmJudge
from tracemend.kit.errors import SetupError
from tracemend.records import Category, Prompt
from tracemend.redaction import Text
from tracemend.trainer.algorithm import make_algorithm
from tracemend.trainer.assembly import BENIGN, HARMFUL, REASONING, rows_of_kind

_MAX_COUNTED = 200_000
"""Rows that a source is counted up to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line of the estimate."""

    what: str
    num_calls: int
    num_tokens: int
    """Prompt and response together."""
    money: float
    hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """All of it."""

    prompts: dict[str, int | None]
    """Rows by source; None where they cannot be counted here."""
    items: tuple[Item, ...]
    rows: dict[str, int]
    """Training rows that each arm may expect."""
    memory: tuple[MemoryNeed, ...]
    uncounted: dict[str, str]
    """Sources and benchmarks whose rows cannot be counted here, with what to set; all figures leave them out."""
    notes: tuple[str, ...]
    assumptions: Assumptions

    @property
    def num_tokens(self) -> int:
        return sum(item.num_tokens for item in self.items)

    @property
    def money(self) -> float:
        return sum(item.money for item in self.items)

    @property
    def hours(self) -> float:
        return sum(item.hours for item in self.items)


def estimate(settings: RunFile, assumptions: Assumptions) -> Estimate:
    """What `settings` will take. Reads prompt sources to count them; opens no engine."""
    plan = resolve(settings)
    counted = [_count(item, settings.limit) for item in plan.run.prompts]
    names = [f"{number} ({item.source})" for number, item in enumerate(plan.run.prompts)]
    categories: Counter[Category] = Counter()
    for _, by_category in counted:
        categories.update(by_category)
    work = _Work(plan, assumptions, categories)
    uncounted = {f"prompts.{name}": problem for name, (problem, _) in zip(names, counted, strict=True) if problem}
    memory, notes = memory_needs(plan.run)
    cut_off = [
        f"prompts.{name}: its first {_MAX_COUNTED:,} rows are counted, and it may have more"
        for name, (_, by_category) in zip(names, counted, strict=True)
        if settings.limit is None and by_category.total() == _MAX_COUNTED
    ]
    return Estimate(
        prompts={
            name: None if problem else by_category.total()
            for name, (problem, by_category) in zip(names, counted, strict=True)
        },
        items=tuple(work.items()),
        rows=work.rows(),
        memory=memory,
        uncounted=uncounted | work.uncounted,
        notes=(*notes, *cut_off),
        assumptions=assumptions,
    )


class _Work:
    """Counts the calls of every step of one plan."""

    def __init__(self, plan: Plan, assumptions: Assumptions, categories: Counter[Category]) -> None:
        self._plan = plan
        self._a = assumptions
        self._prompts = categories
        self.uncounted: dict[str, str] = {}

    def items(self) -> list[Item]:
        run, a = self._plan.run, self._a
        response = min(a.response_tokens, run.target.sampling.max_new_tokens)
        num_samples = sum(self._num_sampled(parent) for parent in self._plan.parents()) * run.target.samples
        written = sum(self._num_written(arm) for arm in self._owners())
        forked = sum(self._num_forks(arm) for arm in self._owners())
        found = [
            self._call("sample", run.target.engine, num_samples, a.prompt_tokens + response),
            self._judging("judge samples", run.judge.harm, num_samples, response),
            self._writing(written, response),
            self._judging("judge rewrites", run.judge.verifier or run.judge.harm, written, a.teacher_tokens),
            self._call("fork", run.target.engine, forked, a.prompt_tokens + response),
            self._judging("judge forks", run.judge.verifier or run.judge.harm, forked, response),
            self._detecting("find cues", self._num_unsafe() + forked, response),
            *self._measuring(response),
            *self._training(response),
        ]
        return [item for item in found if item.num_calls]

    def rows(self) -> dict[str, int]:
        """Rows per arm: what it keeps, mends and refuses, as its `assemble` section allows."""
        return {arm: self._num_rows(arm) for arm in self._plan.owners}

    # ------------------------------------------------------------------------------------------ steps

    def _writing(self, num_texts: int, response: int) -> Item:
        """A strong model reads the prompt and the unsafe response, and writes another."""
        teachers = {c.teacher for arm in self._owners() if (c := self._plan.run.arms[arm].correct) and c.teacher}
        engine = next((self._plan.run.models[name].engine for name in sorted(teachers)), "")
        return self._call("correct", engine, num_texts, self._a.prompt_tokens + response + self._a.teacher_tokens)

    def _judging(self, what: str, judge: HarmJudge, num_trajectories: int, tokens: int) -> Item:
        models = judge.models or (judge.model or "",)
        engines = [self._plan.run.models[name].engine for name in models if name in self._plan.run.models]
        if not engines:  # a judge without a model reads text at no price
            return self._call(what, "", 0, 0)
        each = self._a.prompt_tokens + tokens + self._a.judge_tokens
        num_parts = min(self._a.parts_judged, len(judge.parts))
        return self._call(what, engines[0], num_trajectories * num_parts * len(engines), each)

    def _detecting(self, what: str, num_reasonings: int, tokens: int) -> Item:
        """A detector without a model reads at no price."""
        detector = self._plan.run.judge.detector
        model = self._plan.run.models.get(detector.model or "") if detector else None
        each = self._a.prompt_tokens + tokens + self._a.judge_tokens
        return self._call(what, model.engine, num_reasonings, each) if model else self._call(what, "", 0, 0)

    def _measuring(self, response: int) -> list[Item]:
        run, evaluate = self._plan.run, self._plan.run.evaluate
        if evaluate is None:
            return []
        arms = run.arms.values()
        num_arms = 1 + sum((arm.train or arm.guard) is not None for arm in arms)
        num_guarded = sum(arm.guard is not None and arm.guard.mode != "off" for arm in arms)
        benchmarks = self._benchmarks(evaluate.benchmarks, evaluate.samples)
        validation = self._benchmarks(evaluate.validation, evaluate.samples)
        num_samples, num_validated = benchmarks.total() * num_arms, validation.total() * self._num_candidates()
        harmful = benchmarks[Category.HARMFUL] * num_arms + validation[Category.HARMFUL] * self._num_candidates()
        if evaluate.sampling is not None:
            response = min(self._a.response_tokens, evaluate.sampling.max_new_tokens)
        engine, each = run.target.engine, self._a.prompt_tokens + response
        return [
            self._call("evaluate", engine, num_samples, each),
            self._judging("judge evaluation", run.judge.harm, num_samples, response),
            self._call("validate sweeps", engine, num_validated, each),
            self._judging("judge sweeps", run.judge.harm, num_validated, response),
            # Verdicts are made alike wherever they are made; a mended model has fewer unsafe samples than assumed.
            self._detecting("find cues measuring, at most", round(harmful * self._a.unsafe_share), response),
            # One look at each response is the least that a guard takes.
            self._detecting("guard, at least", benchmarks.total() * num_guarded, response),
        ]

    def _num_candidates(self) -> int:
        """Models that are measured on the validation prompts: those of every sweep, and the base where one goes by
        it."""
        sweeps = [arm.train.sweep for arm in self._plan.run.arms.values() if arm.train and arm.train.sweep]
        return sum(len(sweep.learning_rate) for sweep in sweeps) + any(sweep.at_most_over_base for sweep in sweeps)

    def _training(self, response: int) -> list[Item]:
        found = []
        for arm, rows in self.rows().items():
            train = self._plan.run.arms[arm].train
            if train is not None:
                num_rows = rows * train.epochs * len(train.candidates())
                sides = 2 if make_algorithm(train).kind == "pairs" else 1
                num_tokens = num_rows * sides * (self._a.prompt_tokens + response)
                hours = num_tokens / self._a.trained_tokens_per_s / max(1, train.num_processes) / 3600
                found.append(
                    Item(what=f"train {arm}", num_calls=num_rows, num_tokens=num_tokens, money=0.0, hours=hours)
                )
        return found

    def _call(self, what: str, engine: str, num_calls: int, tokens_each: int) -> Item:
        num_tokens = num_calls * tokens_each
        is_paid = engine.startswith("openai:")
        return Item(
            what=what,
            num_calls=num_calls,
            num_tokens=num_tokens,
            money=num_tokens / 1e6 * self._a.price_per_million if is_paid else 0.0,
            hours=0.0 if engine.startswith("scripted:") else num_tokens / self._a.tokens_per_s / 3600,
        )

    # ---------------------------------------------------------------------------------------- numbers

    def _num_rows(self, arm: str) -> int:
        settings = self._plan.run.arms[arm].assemble
        if settings.rows_of:
            return self._num_rows(settings.rows_of)
        arms = (arm, *settings.match)
        sections = {name: self._plan.run.arms[name].assemble for name in arms}
        return min(sum(rows_of_kind(self._usable(name), sections[name]).values()) for name in arms)

    def _usable(self, arm: str) -> dict[str, int]:
        """What an arm could train on, by kind of row."""
        settings = self._plan.run.arms[arm].assemble
        mended = self._num_mended(self._plan.owners[settings.pairs_from or arm])
        num_benign = self._prompts[Category.BENIGN] + self._prompts[Category.LOOKALIKE]
        if settings.kind == "examples":
            return {HARMFUL: mended, BENIGN: num_benign, REASONING: self._prompts[Category.REASONING]}
        correction = self._correction(self._plan.owners[arm])
        refuses = isinstance(strategy_for(correction, Category.BENIGN), Refused)
        any_refused = 1 - (1 - self._a.refused_share) ** self._plan.run.target.samples
        return {HARMFUL: mended, BENIGN: round(num_benign * any_refused) if refuses else 0}

    def _num_mended(self, owner: str) -> int:
        """Units on harmful prompts that give a row."""
        return round(self._num_selected(owner) * self._yield(owner) * self._units_per_prompt(owner))

    def _num_unsafe(self) -> int:
        """Samples of harmful prompts in which a detector looks for cues."""
        parents = [p for p in self._plan.parents() if any(self._strategy(arm) for arm in self._plan.owned_by(p))]
        num_samples = self._prompts[Category.HARMFUL] * self._plan.run.target.samples * len(parents)
        return round(num_samples * self._a.unsafe_share)

    def _owners(self) -> list[str]:
        return list(dict.fromkeys(self._plan.owners.values()))

    def _num_sampled(self, parent: str) -> int:
        """Prompts that the arms which start from `parent` have units of."""
        corrections = self._plan.corrections(parent)
        probes = {category: Prompt(id="probe", text=Text("probe"), category=category) for category in self._prompts}
        return sum(self._prompts[c] for c, probe in probes.items() if plan_units(corrections, probe, num_samples=1))

    def _num_written(self, arm: str) -> int:
        """Texts that a strong model writes for the units of `arm`."""
        strategy, correct = self._strategy(arm), self._plan.run.arms[arm].correct
        if correct is None or strategy is None or not strategy.kind:
            return 0
        attempts = min(self._a.attempts, correct.attempts)
        return round(self._num_selected(arm) * self._units_per_prompt(arm) * attempts)

    def _num_forks(self, arm: str) -> int:
        """Forks of the units of `arm`: one of every unsafe sample, another while none was accepted and rounds last."""
        strategy = self._strategy(arm)
        if strategy is None or not strategy.forks:
            return 0
        rounds = sum((1 - self._a.fork_share) ** number for number in range(_rounds(strategy)))
        return round(self._num_selected(arm) * self._units_per_prompt(arm) * self._a.unsafe_share * rounds)

    def _num_selected(self, arm: str) -> int:
        """Harmful prompts that the arm works on, by its rule."""
        strategy = self._strategy(arm)
        if strategy is None:
            return 0
        share = _share_of(strategy.rule, self._a, self._plan.run.target.samples)
        return round(self._prompts[Category.HARMFUL] * share)

    def _units_per_prompt(self, arm: str) -> int:
        """Rows that one selected harmful prompt can give."""
        probe = Prompt(id="probe", text=Text("probe"), category=Category.HARMFUL)
        return len(arm_units(self._correction(arm), probe, self._plan.run.target.samples))

    def _yield(self, arm: str) -> float:
        """Share of an arm's units on selected prompts that give a row."""
        strategy = self._strategy(arm)
        if strategy is not None and strategy.forks:
            return self._a.unsafe_share * (1 - (1 - self._a.fork_share) ** _rounds(strategy))
        if isinstance(strategy, Contrast):  # of the selected prompts, those with a safe and an unsafe sample
            num_samples = self._plan.run.target.samples
            one_sided = sum(_share_of(rule, self._a, num_samples) for rule in (Rule.ALL_UNSAFE, Rule.ALL_SAFE))
            return min(1.0, (1 - one_sided) / max(1e-9, _share_of(strategy.rule, self._a, num_samples)))
        return self._a.success_share if strategy is not None and strategy.kind else 1.0

    def _strategy(self, arm: str) -> Strategy | None:
        """What the arm does with harmful prompts; None for one that leaves them alone."""
        return strategy_for(self._correction(arm), Category.HARMFUL)

    def _correction(self, arm: str) -> ArmCorrection:
        found = self._plan.corrections(self._plan.run.arms[arm].from_).arm(arm)
        assert found is not None, "owners correct"
        return found

    def _benchmarks(self, benchmarks: Mapping[str, BenchmarkSettings], num_samples: int) -> Counter[Category]:
        """Samples of all their prompts by one model, by category."""
        found: Counter[Category] = Counter()
        for name, item in benchmarks.items():
            limits = [limit for limit in (item.limit, self._plan.run.limit) if limit is not None]
            problem, counts = _count(item.prompts, min(limits, default=None))
            if problem:
                self.uncounted[f"evaluate.{name}"] = problem
            found.update({category: number * num_samples for category, number in counts.items()})
        return found


def _rounds(strategy: Strategy) -> int:
    return int(getattr(strategy, "rounds", 1))


def _share_of(rule: Rule, a: Assumptions, num_samples: int) -> float:
    """Share of harmful prompts that a selection rule lets through; samples beyond the hard prompts are independent."""
    easy = max(0.0, min(1.0, (a.unsafe_share - a.hard_share) / max(1e-9, 1 - a.hard_share)))
    all_unsafe = a.hard_share + (1 - a.hard_share) * easy**num_samples
    all_safe = (1 - a.hard_share) * (1 - easy) ** num_samples
    return {
        Rule.ALL_UNSAFE: all_unsafe,
        Rule.ANY_UNSAFE: 1 - all_safe,
        Rule.MAJORITY_UNSAFE: a.unsafe_share,
        Rule.ALL_SAFE: all_safe,
        Rule.ANY_SAFE: 1 - all_unsafe,
        Rule.ALL: 1.0,
    }[rule]


def _count(item: PromptsSettings, first: int | None) -> tuple[str, Counter[Category]]:
    """(why it cannot be counted, rows by category)."""
    counts: Counter[Category] = Counter()
    try:
        for row in read([item], first=first or _MAX_COUNTED):
            if not isinstance(row, BadRow):
                counts[row.category] += 1
    except SetupError as problem:
        return str(problem), Counter()
    return "", counts
