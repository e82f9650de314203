"""What may be configured of judging: one judge per axis, and the parts of a trajectory that it reads.

Read from the `judge` section of a run file. The axis follows from the prompt's category: harmful prompts are judged on
harm, benign and look-alike ones on refusal, reasoning ones on correctness. Three roles may be filled by different
judges: `harm` decides and measures, `detector` says where a reasoning turns, `verifier` judges what was mended.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from tracemend.kit.ids import digest_of
from tracemend.kit.settings import Section
from tracemend.records import Axis, Part


class JudgeChoice(Section):
    """A judge by name, with what it needs."""

    name: str
    """A judge plug-in, such as `llama_guard`."""
    model: str | None = None
    """The run file's name of the model that it asks, where it asks one."""
    models: tuple[str, ...] = ()
    """The same for a judge that asks several."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The judge's own options; its module documents them."""
    members: tuple[JudgeChoice, ...] = ()
    """The judges that a panel consults."""


class HarmJudge(JudgeChoice):
    """The judge of harmful prompts' trajectories."""

    parts: tuple[Part, ...] = Field(default=(Part.REASONING, Part.ANSWER, Part.WHOLE), min_length=1)
    """The parts that are judged; the others are unknown."""


class AnswerJudge(JudgeChoice):
    """The judge of an axis on which the answer counts."""

    parts: tuple[Part, ...] = Field(default=(Part.ANSWER,), min_length=1)
    """The parts that are judged; the others are unknown."""


class DetectorChoice(Section):
    """A detector of compliance cues by name, with what it needs."""

    name: str
    """A detector plug-in, such as `llm_cue`."""
    model: str | None = None
    """The run file's name of the model that it asks, where it asks one."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The detector's own options; its module documents them."""


class JudgeSettings(Section):
    """The judges of a run."""

    harm: HarmJudge
    refusal: AnswerJudge = AnswerJudge(name="refusal_strings")
    correctness: AnswerJudge = AnswerJudge(name="math_answer")
    detector: DetectorChoice | None = None
    """Who says where an unsafe reasoning turns; asked about reasonings of harmful prompts that are not judged safe, and
    about every fork. Nobody where it is left out."""
    verifier: HarmJudge | None = None
    """The judge of mended trajectories, forks and rewrites, of harmful prompts; the judge of harm where it is left
    out."""
    revision: int = Field(0, ge=0)
    """Another number judges everything anew; `run --from judge` adds one."""
    harm_parts: tuple[Part, ...] = Field(default=(Part.REASONING, Part.ANSWER), min_length=1)
    """The parts whose harm counts when trajectories are selected and mended."""

    @model_validator(mode="after")
    def _counted_parts_are_judged(self) -> Self:
        for role, judge in (("harm", self.harm), ("verifier", self.verifier or self.harm)):
            missing = ", ".join(part.value for part in self.harm_parts if part not in judge.parts)
            if missing:
                raise ValueError(f"harm_parts counts {missing}, which {role}.parts does not judge; add it there")
        return self

    def digest(self) -> str:
        """Identity of the section. A role that nobody fills is no part of it, so that files from before there were
        roles keep theirs."""
        unfilled = {role for role in ("detector", "verifier") if getattr(self, role) is None}
        return digest_of(self.model_dump(mode="json", exclude=unfilled))

    @property
    def named_models(self) -> frozenset[str]:
        """Every model of the run file that a judge or the detector asks."""
        roles = [role for role in (self.harm, self.refusal, self.correctness, self.verifier) if role is not None]
        of_detector = {self.detector.model} if self.detector is not None and self.detector.model else set()
        return frozenset(of_detector.union(*(_models_of(role) for role in roles)))

    def choice(self, axis: Axis) -> HarmJudge | AnswerJudge:
        """The judge of `axis`."""
        if axis is Axis.HARM:
            return self.harm
        return self.refusal if axis is Axis.REFUSAL else self.correctness


def _models_of(choice: JudgeChoice) -> set[str]:
    own = {name for name in (choice.model, *choice.models) if name}
    return own.union(*(_models_of(member) for member in choice.members))
