"""SafeChain's filter: keep the target's own samples of prompts whose K samples are all safe.

methods.md §3.1 [P?]: an instruction stays only if all of its responses are safe, and one of them is drawn at random.
Every sample is a unit, so that `keep: all` may use all K rows; the draw of `keep: one` hashes the prompt, so it is the
same on every machine and after every replay.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from tracemend.corrector.actions import Action, Conclude
from tracemend.corrector.selection import group_holds, is_usable, standing, why_unknown
from tracemend.corrector.settings import Rule
from tracemend.corrector.strategy import Slot, Strategy, strategies
from tracemend.kit.ids import make_id, seed_of
from tracemend.records import Finish, Group, OutcomeState, Prompt, Unit, Value, Verdict


@strategies.register
@dataclass(frozen=True, slots=True)
class Filter(Strategy):
    """Keep safe samples of the selected prompts; nothing is written."""

    _: KW_ONLY
    keep: Literal["all", "one"] = "all"
    """`all` usable samples of a prompt, or `one` of them drawn at random."""
    seed: int = 0
    """Of the draw."""

    default_rule: ClassVar[Rule] = Rule.ALL_SAFE

    def units(self, prompt: Prompt, num_samples: int) -> tuple[Slot, ...]:
        return tuple(Slot(sample=sample) for sample in range(num_samples))

    def on_group(self, group: Group, unit: Unit) -> Action:
        is_selected = group_holds(self.rule, group, self.parts)
        if not is_selected:
            reason = why_unknown(group, self.parts) if is_selected is None else f"not_{self.rule.value}"
            return Conclude(unit=unit, state=OutcomeState.NOT_SELECTED, reason=reason)
        own = next((verdict for verdict in group.verdicts if verdict.trajectory.sample == unit.sample), None)
        if own is None:
            return Conclude(unit=unit, state=OutcomeState.DEAD, reason="sample_missing")
        reason = self._why_not(own, group)
        if reason:
            return Conclude(unit=unit, state=OutcomeState.NOT_SELECTED, reason=reason)
        return Conclude(unit=unit, state=OutcomeState.KEPT, final=own)

    def _why_not(self, own: Verdict, group: Group) -> str:
        usable = [verdict for verdict in group.verdicts if is_usable(verdict, self.parts)]
        if own in usable:
            is_drawn = self.keep == "all" or own is usable[self._draw(group.prompt) % len(usable)]
            return "" if is_drawn else "not_drawn"
        return _why_unusable(own, standing(own, self.parts))

    def _draw(self, prompt: Prompt) -> int:
        return seed_of(make_id("draw", self.seed, prompt.id))


def _why_unusable(verdict: Verdict, value: Value) -> str:
    if value is Value.UNSAFE:
        return "unsafe_sample"
    if verdict.trajectory.finish is Finish.DEAD:
        return "dead"
    if not verdict.trajectory.is_finished:
        return "unfinished"
    return "missing_part" if value is Value.SAFE else "unknown"
