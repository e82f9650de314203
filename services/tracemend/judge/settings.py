"""What may be configured of judging: one judge per axis, and the parts of a trajectory that it reads.

Read from the `judge` section of a run file. The axis follows from the prompt's category: harmful prompts are judged on
harm, benign and look-alike ones on refusal, reasoning ones on correctness.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

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


class JudgeSettings(Section):
    """The judges of a run."""

    harm: HarmJudge
    refusal: AnswerJudge = AnswerJudge(name="refusal_strings")
    correctness: AnswerJudge = AnswerJudge(name="math_answer")
    revision: int = Field(0, ge=0)
    """Another number judges everything anew; `run --from judge` adds one."""
    harm_parts: tuple[Part, ...] = Field(default=(Part.REASONING, Part.ANSWER), min_length=1)
    """The parts whose harm counts when trajectories are selected and mended."""

    @model_validator(mode="after")
    def _counted_parts_are_judged(self) -> Self:
        missing = [part.value for part in self.harm_parts if part not in self.harm.parts]
        if missing:
            raise ValueError(f"harm_parts counts {', '.join(missing)}, which harm.parts does not judge; add it there")
        return self

    def choice(self, axis: Axis) -> HarmJudge | AnswerJudge:
        """The judge of `axis`."""
        if axis is Axis.HARM:
            return self.harm
        return self.refusal if axis is Axis.REFUSAL else self.correctness
