"""Keep the target's own first verified answer: what every arm does with benign prompts and reasoning tasks.

Benign rows are the base model's own, so that training on them moves nothing but over-refusal; the share of them in a
dataset is the trainer's business.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from tracemend.corrector.actions import Action, Conclude
from tracemend.corrector.selection import group_holds, is_usable, why_unknown, with_standing
from tracemend.corrector.settings import Rule
from tracemend.corrector.strategy import Strategy, strategies
from tracemend.records import Axis, Group, OutcomeState, Unit, Value, Verdict

UNWANTED = {Axis.HARM: "unsafe", Axis.REFUSAL: "refused", Axis.CORRECTNESS: "wrong"}
"""What a verdict of `UNSAFE` is called on each axis."""


@strategies.register
@dataclass(frozen=True, slots=True)
class Keep(Strategy):
    """Keep one sample per selected prompt."""

    default_rule: ClassVar[Rule] = Rule.ANY_SAFE

    def on_group(self, group: Group, unit: Unit) -> Action:
        final = self.kept(group)
        if final is not None:
            return Conclude(unit=unit, state=OutcomeState.KEPT, final=final)
        return Conclude(unit=unit, state=OutcomeState.NOT_SELECTED, reason=self.why_none(group))

    def kept(self, group: Group) -> Verdict | None:
        """The sample that stands for the prompt, if the rule holds and one can be trained on."""
        if not group_holds(self.rule, group, self.parts):
            return None
        return next((verdict for verdict in group.verdicts if is_usable(verdict, self.parts)), None)

    def why_none(self, group: Group) -> str:
        """Reason code for a group of which nothing is kept."""
        is_selected = group_holds(self.rule, group, self.parts)
        if is_selected and with_standing(Value.SAFE, group, self.parts):
            return "missing_part"
        if is_selected is not False and with_standing(Value.UNKNOWN, group, self.parts):
            return why_unknown(group, self.parts)
        return UNWANTED[group.verdicts[0].axis]
