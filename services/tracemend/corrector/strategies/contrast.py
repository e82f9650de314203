"""Natural pairs: a safe and an unsafe sample of one prompt, as the target wrote them, without any intervention.

The baseline that shows what interventions add (methods.md §15.4): preferences between whole rollouts, of which prompts
that are always unsafe or always safe have none.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from tracemend.corrector.actions import Action, Conclude
from tracemend.corrector.selection import group_holds, is_usable, why_unknown, with_standing
from tracemend.corrector.settings import Rule
from tracemend.corrector.strategy import Strategy, strategies
from tracemend.records import Group, OutcomeState, Part, Unit, Value, Verdict


@strategies.register
@dataclass(frozen=True, slots=True)
class Contrast(Strategy):
    """Keep the first usable safe sample of a prompt, against its first whole unsafe one."""

    makes_pairs: ClassVar[bool] = True
    default_rule: ClassVar[Rule] = Rule.ALL
    default_parts: ClassVar[tuple[Part, ...]] = (Part.REASONING,)

    def on_group(self, group: Group, unit: Unit) -> Action:
        is_selected = group_holds(self.rule, group, self.parts)
        if not is_selected:
            reason = why_unknown(group, self.parts) if is_selected is None else f"not_{self.rule.value}"
            return Conclude(unit=unit, state=OutcomeState.NOT_SELECTED, reason=reason)
        unsafe = with_standing(Value.UNSAFE, group, self.parts)
        rejected = next((verdict for verdict in unsafe if verdict.trajectory.is_finished), None)
        wanted = tuple(dict.fromkeys((*self.parts, *self.terms.verify)))
        chosen = next((verdict for verdict in group.verdicts if is_usable(verdict, wanted)), None)
        if chosen is None or rejected is None:
            reason = self._why_none(group, chosen=chosen, rejected=rejected)
            return Conclude(unit=unit, state=OutcomeState.NOT_SELECTED, reason=reason)
        return Conclude(unit=unit, state=OutcomeState.KEPT, final=chosen, original=rejected)

    def _why_none(self, group: Group, *, chosen: Verdict | None, rejected: Verdict | None) -> str:
        """Reason code for a prompt that makes no pair: what it has none of, unless an unknown one could be that."""
        if with_standing(Value.UNKNOWN, group, self.parts):
            return why_unknown(group, self.parts)
        if rejected is None and with_standing(Value.UNSAFE, group, self.parts):
            return "unfinished"
        if chosen is None and with_standing(Value.SAFE, group, self.parts):
            return "safe_unusable"
        return "all_unsafe" if chosen is None else "all_safe"
