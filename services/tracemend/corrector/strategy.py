"""What a strategy plug-in is: pure rules from verdicts to actions, and the words for the strong model that it may ask.

One module of `corrector/strategies` (or of an outside package, entry-point group `tracemend.strategies`) is one
strategy: a pydantic dataclass whose first argument is the arm's `Terms` and whose options are keyword-only, so that
their values are checked. `decide` calls the rules, `service` the words. A strategy keeps no state: every unit that it
plans gets exactly one action per event.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias

from pydantic import ValidationError

from tracemend.corrector.actions import Action
from tracemend.corrector.replies import Reply
from tracemend.corrector.settings import Rule
from tracemend.kit.errors import Reject, SetupError
from tracemend.kit.registry import Registry
from tracemend.records import Category, Group, Part, Prompt, RewriteRequest, Unit, Verdict

Messages: TypeAlias = tuple[Mapping[str, str], ...]
"""A chat: mappings with `role` and `content`."""


class Slot(NamedTuple):
    """A unit of one prompt, without its arm."""

    sample: int = -1
    variant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the arm's sections say to any strategy, for prompts of one category."""

    strategy: str = ""
    """The name that the strategy was asked for by; its requests carry it."""
    rule: Rule | None = None
    """Which prompts to work on; None for the strategy's own rule."""
    parts: tuple[Part, ...] | None = None
    """Parts whose harm counts in the rule and in keeping a sample; None for the strategy's own."""
    verify: tuple[Part, ...] = (Part.REASONING, Part.ANSWER)
    """Parts that must be safe in a text that the teacher wrote, or in a fork."""
    attempts: int = 3
    epoch: int = 0

    @property
    def first_attempt(self) -> int:
        """Attempts go on counting through epochs: equal numbers would find the old epoch's results again."""
        return self.epoch * self.attempts + 1

    @property
    def last_attempt(self) -> int:
        return (self.epoch + 1) * self.attempts


@dataclass(frozen=True, slots=True)
class Strategy(ABC):
    """Base of strategies; one that asks a teacher overrides the second half as well."""

    terms: Terms

    kind: ClassVar[str] = ""
    """What `Intervention.kind` says of a teacher's texts; empty for strategies that ask no teacher."""
    forks: ClassVar[bool] = False
    """Whether it has the target go on from cuts: that takes token ids and a detector of compliance cues."""
    makes_pairs: ClassVar[bool] = False
    """Whether its outcomes hold a rejected side in the target's own tokens: what preference pairs are made of."""
    categories: ClassVar[frozenset[Category]] = frozenset({Category.HARMFUL})
    """The prompts that it is about. Beside one that mends harmful prompts, an arm keeps what it wants of the others."""
    default_rule: ClassVar[Rule] = Rule.ALL
    default_parts: ClassVar[tuple[Part, ...]] = (Part.REASONING, Part.ANSWER)

    @property
    def rule(self) -> Rule:
        """The rule in force."""
        return self.terms.rule or self.default_rule

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts whose harm counts."""
        return self.terms.parts or self.default_parts

    def units(self, prompt: Prompt, num_samples: int) -> tuple[Slot, ...]:
        """The units that it plans for `prompt`: by default one that stands for the prompt."""
        return (Slot(),)

    @abstractmethod
    def on_group(self, group: Group, unit: Unit) -> Action:
        """What to do with `unit` now that all K verdicts on the prompt's samples are there."""

    # ------------------------------------------------------------------- with a teacher, or with forks

    def on_verdict(self, verdict: Verdict, unit: Unit, original: Verdict) -> Action:
        """What to do with `unit` now that a text of the teacher's, or a fork, has been judged; `original` is the
        verdict on the target's own trajectory that it goes back to."""
        raise Reject("unexpected_verdict", f"{type(self).__name__} neither asks a teacher nor forks")

    # -------------------------------------------------------------------------------- with a teacher

    def messages(self, request: RewriteRequest) -> Messages:
        """The chat that asks the teacher for `request`; its last message is from the user."""
        raise Reject("unexpected_request", f"{type(self).__name__} asks no teacher")

    def score_messages(self, request: RewriteRequest, reply: Reply) -> Messages | None:
        """The chat that asks for scores of the teacher's `reply`; None where nothing is scored."""
        return None


StrategyFactory: TypeAlias = Callable[..., Any]
"""A subclass of `Strategy`, or a function that takes the same arguments and returns one."""

strategies: Registry[StrategyFactory] = Registry(
    "strategy", package="tracemend.corrector.strategies", group="tracemend.strategies"
)


def make_strategy(name: str, terms: Terms, options: Mapping[str, Any]) -> Strategy:
    """Strategy `name` under `terms`; `SetupError` where there is none or an option is unknown or has a wrong value."""
    try:
        strategy: Strategy = strategies.create(name, dataclasses.replace(terms, strategy=name), **options)
    except ValidationError as error:
        faults = "; ".join(
            f"option '{fault['loc'][0]}': {fault['msg'].removeprefix('Value error, ')}" for fault in error.errors()
        )
        raise SetupError(f"strategy '{name}': {faults}") from None
    return strategy
