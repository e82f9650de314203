"""STAR-1's generation: a strong model answers with the policy at hand, and only full marks are kept.

methods.md §4.4, §4.5 [R]: the policy text stands in the request and never in the training row (context distillation);
a scorer gives three scores from 0 to 10, and a row stays only where all are 10. The draft is judged for harm as well.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from tracemend.corrector import prompting
from tracemend.corrector.actions import Action, Conclude
from tracemend.corrector.attempts import fault, first_attempt, settle
from tracemend.corrector.policies import policy_for
from tracemend.corrector.replies import SCORES, Reply
from tracemend.corrector.selection import group_holds, why_unknown, with_standing
from tracemend.corrector.settings import Rule
from tracemend.corrector.strategy import Messages, Slot, Strategy, strategies
from tracemend.records import Group, OutcomeState, Prompt, RewriteRequest, Trajectory, Unit, Value, Verdict


@strategies.register
@dataclass(frozen=True, slots=True)
class Policy(Strategy):
    """Write `drafts` policy-grounded responses per selected prompt."""

    _: KW_ONLY
    drafts: Annotated[int, Field(ge=1)] = 1
    """Units per prompt, each with a draft of its own."""
    policy: str = ""
    """Policy text to use for every prompt; empty for the default taxonomy, chosen by the prompt's category tags."""
    is_scored: bool = True
    """Whether drafts are scored; unscored ones need only the judge's verdict."""
    min_score: Annotated[int, Field(ge=0, le=10)] = 10
    """The lowest of the three scores that is kept: 10 is full marks."""

    kind: ClassVar[str] = "policy"
    default_rule: ClassVar[Rule] = Rule.ALL

    def units(self, prompt: Prompt, num_samples: int) -> tuple[Slot, ...]:
        return tuple(Slot(variant=f"draft-{draft}") for draft in range(self.drafts))

    def on_group(self, group: Group, unit: Unit) -> Action:
        is_selected = group_holds(self.rule, group, self.parts)
        if not is_selected:
            reason = why_unknown(group, self.parts) if is_selected is None else f"not_{self.rule.value}"
            return Conclude(unit=unit, state=OutcomeState.NOT_SELECTED, reason=reason)
        # The draft does not depend on the target's sample; an unsafe one makes the better pair with it.
        unsafe = with_standing(Value.UNSAFE, group, self.parts)
        return first_attempt(self, unit, (unsafe or group.verdicts)[0])

    def on_verdict(self, verdict: Verdict, unit: Unit, original: Verdict) -> Action:
        found = fault(verdict, self.terms.verify)
        if not found and self.is_scored:
            scores = _scores(verdict.trajectory)
            if scores.keys() != set(SCORES):
                found = "unscored"
            elif min(scores.values()) < self.min_score:
                return Conclude(
                    unit=unit, state=OutcomeState.NOT_SELECTED, reason="below_full_marks", original=original
                )
        return settle(self, verdict, unit, original, fault=found)

    def messages(self, request: RewriteRequest) -> Messages:
        return prompting.policy_messages(request, policy=self._policy(request))

    def score_messages(self, request: RewriteRequest, reply: Reply) -> Messages | None:
        if not self.is_scored:
            return None
        return prompting.score_messages(request, reply, policy=self._policy(request))

    def _policy(self, request: RewriteRequest) -> str:
        return self.policy or policy_for(request.verdict.trajectory.prompt.tags)


def _scores(trajectory: Trajectory) -> dict[str, int]:
    return trajectory.intervention.scores if trajectory.intervention is not None else {}
