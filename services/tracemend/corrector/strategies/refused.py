"""The rejected side of IPO's second stage: harmless prompts that the model of the first stage refuses.

methods.md §12.2 [P]: preferences on benign prompts, the base model's normal answer against this model's refusal. An arm
with this strategy starts from the first stage's arm and works on harmless prompts alone. Nothing here is to be trained
towards, so no unit is kept; assembly sets the refusal that an outcome carries against the base model's own answer.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from tracemend.corrector.actions import Action, Conclude
from tracemend.corrector.selection import why_unknown, with_standing
from tracemend.corrector.settings import Rule
from tracemend.corrector.strategy import Strategy, strategies
from tracemend.records import Category, Group, OutcomeState, Part, Unit, Value


@strategies.register
@dataclass(frozen=True, slots=True)
class Refused(Strategy):
    """Find the first whole refusal of each harmless prompt."""

    makes_pairs: ClassVar[bool] = True
    categories: ClassVar[frozenset[Category]] = frozenset({Category.BENIGN, Category.LOOKALIKE})
    default_rule: ClassVar[Rule] = Rule.ALL
    default_parts: ClassVar[tuple[Part, ...]] = (Part.ANSWER,)

    def on_group(self, group: Group, unit: Unit) -> Action:
        refusals = with_standing(Value.UNSAFE, group, self.parts)
        whole = next((verdict for verdict in refusals if verdict.trajectory.is_finished), None)
        if whole is not None:
            return Conclude(unit=unit, state=OutcomeState.NOT_SELECTED, reason="refused", original=whole)
        if with_standing(Value.SAFE, group, self.parts):
            reason = "answered"
        else:
            reason = "unfinished" if refusals else why_unknown(group, self.parts)
        return Conclude(unit=unit, state=OutcomeState.NOT_SELECTED, reason=reason)
