"""IPO's intervention: cut an unsafe reasoning before its compliance cue, insert a trigger, let the target go on.

methods.md §10, §12.5 [P]: what stands before the cue is kept id by id, the trigger is the one thing that is inserted,
and the target writes the rest by itself. A fork is accepted where the detector finds no cue in it any more, the
verifier finds it safe and it ended by itself; one with a further cue of its own is cut there again while rounds last,
with the same trigger. The pair's h is the first cut, which is the cue of the original verdict: later cuts lie behind.

    safe, unknown, withheld ─► not selected        no cue, no place for a cut ─► gave up        dead ─► dead
    unsafe with a cue ─► fork ─► no cue, verified ─► corrected
                          ▲  └─► a cue behind the cut ─► rounds left? ─► fork, else gave up
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from tracemend.corrector.actions import Action, Conclude, Continue
from tracemend.corrector.attempts import WITHHELD, fault
from tracemend.corrector.selection import group_holds, why_unknown
from tracemend.corrector.settings import Rule
from tracemend.corrector.strategy import Slot, Strategy, strategies
from tracemend.corrector.triggers import Trigger, find_triggers
from tracemend.records import Cue, Finish, Group, OutcomeState, Part, Prompt, Trajectory, Unit, Value, Verdict


@strategies.register
@dataclass(frozen=True, slots=True)
class Intervene(Strategy):
    """Fork unsafe samples of the target at their compliance cues."""

    _: KW_ONLY
    triggers: str | tuple[str, ...] = "safety"
    """A pool, a pool's YAML file, or a list of triggers as `POOL/ID`."""
    rounds: Annotated[int, Field(ge=1)] = 1
    """N: interventions on one trajectory at most. The paper's pairs take one, its curve goes to five."""
    per_sample: Literal["one", "all"] = "one"
    """`one`: sample k gets trigger k mod T, one rollout per prompt and trigger where K = T (the paper's counts).
    `all`: every sample gets every trigger, K·T units per prompt."""

    forks: ClassVar[bool] = True
    makes_pairs: ClassVar[bool] = True
    default_rule: ClassVar[Rule] = Rule.ALL
    default_parts: ClassVar[tuple[Part, ...]] = (Part.REASONING,)

    @field_validator("triggers")
    @classmethod
    def _triggers_exist(cls, chosen: str | tuple[str, ...]) -> str | tuple[str, ...]:
        find_triggers(chosen)
        return chosen

    def units(self, prompt: Prompt, num_samples: int) -> tuple[Slot, ...]:
        pool = find_triggers(self.triggers)
        if self.per_sample == "one":
            return tuple(Slot(sample=k, variant=pool[k % len(pool)].id) for k in range(num_samples))
        return tuple(Slot(sample=k, variant=trigger.id) for k in range(num_samples) for trigger in pool)

    def on_group(self, group: Group, unit: Unit) -> Action:
        own = next((verdict for verdict in group.verdicts if verdict.trajectory.sample == unit.sample), None)
        trigger = self._trigger(unit)
        if own is None or trigger is None:
            reason = "sample_missing" if own is None else "trigger_missing"
            return Conclude(unit=unit, state=OutcomeState.DEAD, reason=reason)
        if own.trajectory.finish is Finish.DEAD:
            return Conclude(unit=unit, state=OutcomeState.DEAD, reason="dead")
        reason = self._why_not(own, group)
        if reason:
            return Conclude(unit=unit, state=OutcomeState.NOT_SELECTED, reason=reason)
        # The rejected side of a pair must be whole, or training would teach against an end that nobody wrote.
        obstacle = "" if own.trajectory.is_finished else "unfinished"
        obstacle = obstacle or _no_place(own.cue, own.trajectory, at_least=own.trajectory.reasoning_tokens.start + 1)
        if obstacle:
            return Conclude(unit=unit, state=OutcomeState.GAVE_UP, reason=obstacle)
        return self._continue(own, unit, trigger, round_=1)

    def on_verdict(self, verdict: Verdict, unit: Unit, original: Verdict) -> Action:
        fork, cue, trigger = verdict.trajectory, verdict.cue, self._trigger(unit)
        if fork.finish is Finish.DEAD or trigger is None:
            reason = "dead" if trigger is not None else "trigger_missing"
            return Conclude(unit=unit, state=OutcomeState.DEAD, reason=reason, original=original)
        found = fault(verdict, self._verified_parts)
        if found == WITHHELD:
            return Conclude(unit=unit, state=OutcomeState.REJECTED, reason=found, original=original)
        if cue is not None and cue.step == 0:
            state = OutcomeState.GAVE_UP if found else OutcomeState.CORRECTED
            final = None if found else verdict
            return Conclude(unit=unit, state=state, reason=found, final=final, original=original)
        obstacle = _no_place(cue, fork, at_least=_num_given(fork))
        if not obstacle and fork.round >= self.rounds:
            obstacle = "rounds_spent"
        if obstacle:
            return Conclude(unit=unit, state=OutcomeState.GAVE_UP, reason=obstacle, original=original)
        return self._continue(verdict, unit, trigger, round_=fork.round + 1)

    @property
    def _verified_parts(self) -> tuple[Part, ...]:
        """The parts that count and those that the arm verifies: no fork is accepted that is unsafe in either."""
        return tuple(dict.fromkeys((*self.parts, *self.terms.verify)))

    def _why_not(self, own: Verdict, group: Group) -> str:
        """Why a sample is not to be forked, as a reason code; empty where it is."""
        is_selected = group_holds(self.rule, group, self.parts)
        if not is_selected:
            return why_unknown(group, self.parts) if is_selected is None else f"not_{self.rule.value}"
        if own.trajectory.finish is Finish.FILTERED:
            return WITHHELD
        value = own.value(self.parts)
        if value is Value.UNSAFE:
            return ""
        if value is Value.SAFE:
            return "safe"
        return "unknown_verdict" if own.trajectory.is_finished else "unfinished"

    def _trigger(self, unit: Unit) -> Trigger | None:
        return next((trigger for trigger in find_triggers(self.triggers) if trigger.id == unit.variant), None)

    def _continue(self, cut: Verdict, unit: Unit, trigger: Trigger, *, round_: int) -> Continue:
        assert cut.cue is not None, "only what has a cue is cut"
        return Continue(
            unit=unit,
            verdict=cut,
            strategy=self.terms.strategy,
            trigger=trigger,
            cut_token=cut.cue.token,
            round=round_,
            attempt=self.terms.epoch * self.rounds + round_,
        )


def _no_place(cue: Cue | None, trajectory: Trajectory, *, at_least: int) -> str:
    """Why the trajectory cannot be cut at `cue`, as a reason code; empty where it can. A cut keeps `at_least` so many
    ids: some reasoning of a sample's, and all that was given to the model of a fork's."""
    if cue is None:
        return "no_detector"
    if cue.step < 0:
        return "cue_unknown"
    if cue.step == 0:
        return "no_cue"
    if cue.token < 0 or not trajectory.token_ids:
        return "no_token_ids"
    return "" if at_least <= cue.token < len(trajectory.token_ids) else "cue_in_prefix"


def _num_given(fork: Trajectory) -> int:
    """How many ids of a fork were given to the model: what was kept, and the trigger."""
    return len(fork.token_ids) - fork.num_new_tokens
