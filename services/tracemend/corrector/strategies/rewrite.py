"""UnsafeChain's correction: a strong model rewrites an unsafe completion of a hard prompt, and the result is verified.

methods.md §2.9 [X]: the teacher sees the prompt, the unsafe reasoning and answer, and returns both parts; the text is
judged like any trajectory, written again with another seed while attempts last, and given up with a reason.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import ClassVar, Literal

from pydantic import field_validator
from pydantic.dataclasses import dataclass

from tracemend.corrector import prompting
from tracemend.corrector.actions import Action, Conclude
from tracemend.corrector.attempts import fault, first_attempt, settle
from tracemend.corrector.selection import group_holds, is_usable, why_unknown, with_standing
from tracemend.corrector.settings import Rule
from tracemend.corrector.strategy import Messages, Strategy, strategies
from tracemend.records import Finish, Group, OutcomeState, RewriteRequest, Trajectory, Unit, Value, Verdict

_TRACES_OF_THE_ORIGINAL = (
    "the original answer",
    "the original reasoning",
    "the original response",
    "the original text",
    "the unsafe answer",
    "the unsafe reasoning",
    "the previous answer",
    "the previous response",
    "rewritten version",
    "revised version",
    "asked to rewrite",
    "this rewrite",
)


@strategies.register
@dataclass(frozen=True, slots=True)
class Rewrite(Strategy):
    """Rewrite one unsafe completion of each selected prompt."""

    _: KW_ONLY
    pick: Literal["first", "worst"] = "first"
    """`first` unsafe completion, or the `worst` by the judge's score (a finished one where there is one)."""
    when_safe: Literal["skip", "keep", "rewrite"] = "skip"
    """A selected prompt without an unsafe sample: `skip` it, `keep` its first safe sample, or `rewrite` that."""
    length_band: tuple[float, float] | None = None
    """Shortest and longest a part may be, as shares of the original part's characters (RAJ-PGA: 0.8, 1.2)."""
    hide_original: bool = False
    """Refuse texts that let on that there was an original."""

    kind: ClassVar[str] = "rewrite"
    default_rule: ClassVar[Rule] = Rule.ALL_UNSAFE

    @field_validator("length_band")
    @classmethod
    def _band_rises(cls, band: tuple[float, float] | None) -> tuple[float, float] | None:
        if band is not None and not 0 <= band[0] < band[1]:
            raise ValueError("needs two shares in rising order, such as [0.8, 1.2]")
        return band

    def on_group(self, group: Group, unit: Unit) -> Action:
        is_selected = group_holds(self.rule, group, self.parts)
        if not is_selected:
            return _not_selected(unit, why_unknown(group, self.parts) if is_selected is None else "easy")
        unsafe = with_standing(Value.UNSAFE, group, self.parts)
        if unsafe:
            return first_attempt(self, unit, self._pick(unsafe))
        return self._without_unsafe(group, unit)

    def on_verdict(self, verdict: Verdict, unit: Unit, original: Verdict) -> Action:
        found = fault(verdict, self.terms.verify) or self._shape_fault(verdict.trajectory, original.trajectory)
        return settle(self, verdict, unit, original, fault=found)

    def messages(self, request: RewriteRequest) -> Messages:
        return prompting.rewrite_messages(request)

    def _pick(self, unsafe: tuple[Verdict, ...]) -> Verdict:
        finished = tuple(verdict for verdict in unsafe if verdict.trajectory.is_finished) or unsafe
        if self.pick == "first":
            return finished[0]
        return max(finished, key=lambda verdict: max(verdict.of(part).score for part in self.parts))

    def _without_unsafe(self, group: Group, unit: Unit) -> Action:
        usable = [verdict for verdict in group.verdicts if is_usable(verdict, self.parts)]
        if self.when_safe == "keep" and usable:
            return Conclude(unit=unit, state=OutcomeState.KEPT, final=usable[0])
        written = [verdict for verdict in group.verdicts if verdict.trajectory.finish is not Finish.DEAD]
        if self.when_safe == "rewrite" and written:
            return first_attempt(self, unit, (usable or written)[0])
        is_safe = bool(with_standing(Value.SAFE, group, self.parts))
        return _not_selected(unit, "easy" if is_safe else why_unknown(group, self.parts))

    def _shape_fault(self, new: Trajectory, old: Trajectory) -> str:
        """The checks that are off by default (methods.md §2.9, §31)."""
        parts = ((new.reasoning.reveal(), old.reasoning.reveal()), (new.answer.reveal(), old.answer.reveal()))
        if self.length_band is not None:
            shares = [len(text) / len(original) for text, original in parts if original]
            if any(share < self.length_band[0] for share in shares):
                return "part_too_short"
            if any(share > self.length_band[1] for share in shares):
                return "part_too_long"
        if self.hide_original:
            words = " ".join(text.casefold() for text, _ in parts)
            if any(phrase in words for phrase in _TRACES_OF_THE_ORIGINAL):
                return "mentions_original"
        return ""


def _not_selected(unit: Unit, reason: str) -> Conclude:
    return Conclude(unit=unit, state=OutcomeState.NOT_SELECTED, reason=reason)
