"""What may be configured of selecting, correcting and keeping: three sections of each arm of a run file.

The run file composes `SelectSettings`, `CorrectSettings` and `KeepSettings`; the stages read a `CorrectionPlan`, which
holds them for every arm that owns units. Names of models are the run file's; engines and endpoints are not known here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, model_validator

from tracemend.kit.settings import SamplingSettings, Section
from tracemend.records import Part


class Rule(StrEnum):
    """Which prompts a strategy works on, by the verdicts on their K samples. Unknown verdicts decide nothing."""

    ANY_UNSAFE = "any_unsafe"
    MAJORITY_UNSAFE = "majority_unsafe"
    ALL_UNSAFE = "all_unsafe"
    """UnsafeChain's hard prompts (methods.md §2.9 [X])."""
    ANY_SAFE = "any_safe"
    ALL_SAFE = "all_safe"
    """SafeChain's prompts (§3.1 [P?])."""
    ALL = "all"


class SelectSettings(Section):
    """Which harmful prompts an arm works on."""

    rule: Rule | None = None
    """Left out, the strategy's own: `rewrite` all_unsafe, `filter` all_safe, the others all."""
    parts: tuple[Part, ...] | None = Field(None, min_length=1)
    """The parts whose harm counts. Left out, the strategy's own: reasoning alone for `intervene` and `contrast`, also
    where the answer is safe; reasoning and answer for the others."""


class TeacherSampling(SamplingSettings):
    """How the strong model draws tokens. Each attempt has a seed of its own, so it must not be greedy to help."""

    temperature: float = Field(0.7, ge=0)


class CorrectSettings(Section):
    """How an arm makes training rows of the prompts that it selected."""

    strategy: str
    """`rewrite` (UnsafeChain), `filter` (SafeChain), `policy` (STAR-1), `intervene` (IPO), `contrast` (natural pairs),
    `refused` (IPO's second stage) or a plug-in of your own."""
    attempts: int = Field(3, ge=1)
    """Texts that the teacher may write for one unit before it is given up."""
    teacher: str = ""
    """The run file's name of the strong model; strategies that write text need it."""
    fallback: str = ""
    """The model that is asked where the teacher refuses or its provider's filter withholds the reply."""
    scorer: str = ""
    """The model that scores drafts, for strategies that score; left out, the teacher."""
    sampling: TeacherSampling = Field(default_factory=TeacherSampling)
    verify: tuple[Part, ...] = Field((Part.REASONING, Part.ANSWER), min_length=1)
    """The parts that must be judged safe before a text that the teacher wrote, or a fork, is accepted."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The strategy's own options; its module documents them."""
    revision: int = Field(0, ge=0)
    """Another number has every text and every fork written anew; `run --from correct` adds one."""

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that the section names."""
        return tuple(dict.fromkeys(name for name in (self.teacher, self.fallback, self.scorer) if name))


class KeepSettings(Section):
    """What an arm keeps of the prompts that need no mending: benign ones, look-alikes and reasoning tasks.

    One row per prompt: the target's own first answer that is finished and was verified (complied, or correct).
    """

    benign: Rule = Rule.ANY_SAFE
    """Which benign prompts and look-alikes give a row."""
    reasoning: Rule = Rule.ANY_SAFE
    """Which reasoning tasks give a row of the target's own."""
    correct_wrong: bool = False
    """Ask the teacher for a solution where the checker finds all K answers wrong; the solution is checked as well."""

    @model_validator(mode="after")
    def _rules_leave_something(self) -> Self:
        for name in ("benign", "reasoning"):
            if getattr(self, name) is Rule.ALL_UNSAFE:
                raise ValueError(f"{name}: all_unsafe leaves no verified answer to keep; use any_safe or all_safe")
        return self


class ArmCorrection(Section):
    """Everything that decides how the units of one arm end."""

    name: str
    select: SelectSettings = Field(default_factory=SelectSettings)
    correct: CorrectSettings
    keep: KeepSettings = Field(default_factory=KeepSettings)


class CorrectionPlan(Section):
    """The arms that own units; arms with equal sections share one, under the first one's name."""

    arms: tuple[ArmCorrection, ...]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [arm.name for arm in self.arms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"arms need names of their own; more than one is called {', '.join(twice)}")
        return self

    def arm(self, name: str) -> ArmCorrection | None:
        """The arm called `name`, if it owns units."""
        return next((arm for arm in self.arms if arm.name == name), None)
