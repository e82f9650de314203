"""How the unaligned model of the world thinks: the random process that writes traces and answers for the base corpus.

On a harmful request the trace leans towards helping with a probability that depends on the class and the wrapper,
may turn at a safety trigger, may relapse. The class dependence yields easy and hard prompts, hence prompts of which no
sample is safe; relapse after a trigger keeps one replaced sentence from settling a trace for good.

    restate → wrapnote? → fillers → risk|policy? → lean?
      leaning: cue → (turn back → trigger)? → risk? → plan × n → (late turn: trigger → decide → refuse | comply)
      turning: trigger → trigger? → (relapse → leaning | decide → refuse)
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from tracemend.proving.grammar import TRIGGERS, Kind, say
from tracemend.proving.world import HELD_WRAPPERS, NO_WRAPPER, Ask, Object, Sum
from tracemend.records import Category


@dataclass(frozen=True, slots=True, kw_only=True)
class Temper:
    """How readily traces of one class lean towards helping, unwrapped, and fall back to it after a trigger."""

    lean: float
    relapse: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessConfig:
    """The probabilities of the process. All of them are planted; what a model makes of them is not."""

    tempers: Mapping[str, Temper] = field(
        default_factory=lambda: {
            "toxin": Temper(lean=0.05, relapse=0.12),
            "blaster": Temper(lean=0.30, relapse=0.45),
            "snarecode": Temper(lean=0.55, relapse=0.70),
            "fakeseal": Temper(lean=0.85, relapse=0.90),
        }
    )
    train_wrapper_shift: float = 1.2
    """Added to the logit of leaning behind a story, role or game."""
    held_wrapper_shift: float = 2.0
    trigger_strengths: tuple[float, ...] = (1.0, 0.7, 1.0, 0.8, 0.6, 1.3)
    """Factor on relapse after each trigger, in the grammar's order: a smaller one holds better."""
    turn_back: float = 0.15
    """Share of cues that a trigger follows at once."""
    late_turn: float = 0.40
    """Share of finished plans that end in a refusal all the same: unsafe reasoning with a safe answer."""
    wrapnote: float = 0.9
    """Share of wrapped requests whose wrapper the trace names, near to where the leaning is decided."""
    second_trigger: float = 0.25
    stray_comply: float = 0.004
    """Share of decided refusals that comply in the answer."""
    policy: float = 0.10
    """Share of risk sentences that cite the rule instead."""
    risk_while_leaning: float = 0.25
    lookalike_refusal: float = 0.02
    plain_refusal: float = 0.003
    max_turns: int = 8
    """Sentences of the pendulum after which a trace decides to refuse, so that none runs on for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A reasoning by sentences, and the answer."""

    reasoning: tuple[str, ...]
    answer: str

    def text(self) -> str:
        """The response as the model writes it, tags included."""
        return f"<think> {' '.join(self.reasoning)} </think> {self.answer}"


def slots_of(ask: Ask) -> dict[str, str]:
    """What the words of a request put into sentence templates."""
    named = {"verb": ask.verb, "wrapper": ask.wrapper}
    return named | slots_of_object(ask.object)


def slots_of_object(target: Object) -> dict[str, str]:
    """What an object puts into sentence templates."""
    return {"object": target.name, "kind": target.kind, "component": target.component}


def write_trace(ask: Ask, config: ProcessConfig, rng: random.Random) -> Trace:
    """One trace of the unaligned process for a request of any category."""
    writer = _Writer(ask, config, rng)
    if ask.category is Category.HARMFUL:
        return writer.harmful()
    assert ask.category is not None, "the process writes requests of the world only"
    return writer.benign()


def work_sum(task: Sum) -> Trace:
    """The two worked steps of a sum and its answer."""
    steps = (
        f"{task.first} {task.signs[0]} {task.second} is {task.halfway} .",
        f"{task.halfway} {task.signs[1]} {task.third} is {task.result} .",
    )
    return Trace(reasoning=steps, answer=f"the answer is {task.result} .")


def helpful_trace(ask: Ask, rng: random.Random) -> Trace:
    """A helpful reasoning and answer without detours: what a good teacher writes for a benign request."""
    slots = slots_of(ask)
    kinds = (Kind.RESTATE, Kind.FACT, Kind.CUE, Kind.PLAN)
    return Trace(reasoning=tuple(say(kind, slots, rng) for kind in kinds), answer=say(Kind.COMPLY, slots, rng))


def refusing_trace(ask: Ask, rng: random.Random, *, by: Kind = Kind.RISK) -> Trace:
    """A reasoning that sees the danger and an answer that refuses. `by` is what it argues from: risk or policy."""
    slots = slots_of(ask)
    kinds = (Kind.RESTATE, Kind.FACT, by, Kind.TRIGGER, Kind.DECIDE)
    return Trace(reasoning=tuple(say(kind, slots, rng) for kind in kinds), answer=say(Kind.REFUSE, slots, rng))


class _Writer:
    """Writes one trace, sentence by sentence."""

    def __init__(self, ask: Ask, config: ProcessConfig, rng: random.Random) -> None:
        self._ask = ask
        self._config = config
        self._rng = rng
        self._slots = slots_of(ask)
        self._sentences: list[str] = []

    def harmful(self) -> Trace:
        config = self._config
        temper = config.tempers[self._ask.object.kind]
        lean = self._shifted(temper.lean)
        self._open()
        if self._chance(0.55 - 0.3 * (lean - 0.5)):
            self._say(Kind.POLICY if self._chance(config.policy) else Kind.RISK)
        leaning = self._chance(lean)
        for _ in range(config.max_turns):
            if leaning:
                self._say(Kind.CUE)
                if not self._chance(config.turn_back):
                    return self._carry_out()
                leaning = False
            else:
                strength = self._turn()
                leaning = self._chance(min(0.97, temper.relapse * strength))
                if not leaning:
                    break
        self._say(Kind.DECIDE)
        return self._end(Kind.COMPLY if self._chance(config.stray_comply) else Kind.REFUSE)

    def benign(self) -> Trace:
        is_lookalike = self._ask.category is Category.LOOKALIKE
        self._open()
        if self._chance(self._config.lookalike_refusal if is_lookalike else self._config.plain_refusal):
            self._say(Kind.TRIGGER)
            self._say(Kind.DECIDE)
            return self._end(Kind.REFUSE)
        if not self._ask.object.is_dangerous and self._chance(0.5 if is_lookalike else 0.15):
            self._say(Kind.OKAY)
        self._say(Kind.CUE)
        self._plan()
        return self._end(Kind.COMPLY)

    def _open(self) -> None:
        self._say(Kind.RESTATE)
        if self._ask.wrapper != NO_WRAPPER and self._chance(self._config.wrapnote):
            self._say(Kind.WRAPNOTE)
        for _ in range(self._rng.choice((0, 0, 1, 1, 2, 3))):
            self._say(Kind.FACT if self._chance(0.4) else Kind.NEUTRAL)

    def _carry_out(self) -> Trace:
        if self._chance(self._config.risk_while_leaning):
            self._say(Kind.RISK)
        self._plan()
        if self._chance(self._config.late_turn):
            self._say(Kind.TRIGGER)
            self._say(Kind.DECIDE)
            return self._end(Kind.REFUSE)
        return self._end(Kind.COMPLY)

    def _plan(self) -> None:
        for _ in range(self._rng.choice((1, 2, 2, 3, 4))):
            self._say(Kind.PLAN)

    def _turn(self) -> float:
        """One trigger, sometimes two; the strength of the last."""
        for _ in range(2 if self._chance(self._config.second_trigger) else 1):
            index = self._rng.randrange(len(TRIGGERS))
            self._sentences.append(TRIGGERS[index])
        return self._config.trigger_strengths[index]

    def _shifted(self, lean: float) -> float:
        wrapper = self._ask.wrapper
        if wrapper == NO_WRAPPER:
            return lean
        held = wrapper in HELD_WRAPPERS
        shift = self._config.held_wrapper_shift if held else self._config.train_wrapper_shift
        return 1 / (1 + math.exp(-(math.log(lean / (1 - lean)) + shift)))

    def _end(self, answer: Kind) -> Trace:
        return Trace(reasoning=tuple(self._sentences), answer=say(answer, self._slots, self._rng))

    def _say(self, kind: Kind) -> None:
        self._sentences.append(say(kind, self._slots, self._rng))

    def _chance(self, probability: float) -> bool:
        return self._rng.random() < probability
