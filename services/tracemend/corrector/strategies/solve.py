"""Keep the target's own correct answer; where the checker finds all K wrong, a strong model solves the task.

methods.md §2.9, §5 E [X]: correct only wrong answers, and verify the correction with the same checker. The reference
answer is never shown to the teacher, or agreeing with it would prove nothing.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from tracemend.corrector import prompting
from tracemend.corrector.actions import Action
from tracemend.corrector.attempts import fault, first_attempt, settle
from tracemend.corrector.selection import group_holds
from tracemend.corrector.settings import Rule
from tracemend.corrector.strategies.keep import Keep
from tracemend.corrector.strategy import Messages, strategies
from tracemend.records import Group, RewriteRequest, Unit, Verdict


@strategies.register
@dataclass(frozen=True, slots=True)
class Solve(Keep):
    """Like `keep`, with a teacher's solution where every sample is wrong."""

    kind: ClassVar[str] = "solve"

    def on_group(self, group: Group, unit: Unit) -> Action:
        if group_holds(Rule.ALL_UNSAFE, group, self.parts):
            return first_attempt(self, unit, group.verdicts[0])
        # Zero-argument super() has no class cell in a slotted dataclass.
        return Keep.on_group(self, group, unit)

    def on_verdict(self, verdict: Verdict, unit: Unit, original: Verdict) -> Action:
        return settle(self, verdict, unit, original, fault=fault(verdict, self.terms.verify))

    def messages(self, request: RewriteRequest) -> Messages:
        return prompting.solve_messages(request)
