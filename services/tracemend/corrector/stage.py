"""The corrector between topics: one stage decides on units, the other has a strong model write.

    groups, verdicts on a unit's texts ─► CorrectorStage ─┬─► outcomes
                                          and forks       ├─► rewrites ─► TeacherStage ─► trajectories ─► (judge)
                                                          └─► continuations ─► (generator) ─► trajectories ─► (judge)

Deciding is pure and cheap, so its results are not remembered: a repeated event repeats the same messages. Writing is
remembered under the request's id. Nothing that is remembered names an arm or a unit, since arms may share it; units
ride in the context.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

from tracemend.corrector.actions import Action, AskTeacher, Conclude
from tracemend.corrector.decide import arm_units, decide
from tracemend.corrector.requests import fork_request, rewrite_request, settings_digest
from tracemend.corrector.service import STAGE, TeacherService, given_up
from tracemend.corrector.settings import ArmCorrection, CorrectionPlan
from tracemend.kit.errors import Reject
from tracemend.kit.ids import make_id
from tracemend.kit.ports import Context, Message, TextModel
from tracemend.kit.stage import Produced
from tracemend.records import (
    Group,
    Outcome,
    OutcomeState,
    RewriteRequest,
    Sampling,
    Trajectory,
    Unit,
    Verdict,
)
from tracemend.topics import CONTINUATIONS, GROUPS, OUTCOMES, REWRITES, TRAJECTORIES, VERDICTS, Topic


class Ancestry(Protocol):
    """How the corrector finds the verdict that a teacher's text or a fork goes back to: the stored results know it."""

    async def original(self, trajectory: Trajectory) -> Verdict | None:
        """The verdict on the target's own sample that `trajectory` was made from, over any number of forks, under the
        judges of the run; None where there is none."""
        ...


class CorrectorStage:
    """Decides on every unit of a prompt when its group is complete, and again on each text or fork made for it.

    `identities` maps the run file's model names to what the engines call themselves; it must agree with the models
    that the teacher's stage is given. `sampling` is how the target's fresh samples are drawn, forks as well.
    """

    def __init__(
        self, plan: CorrectionPlan, *, ancestry: Ancestry, identities: Mapping[str, str], sampling: Sampling
    ) -> None:
        self._plan = plan
        self._ancestry = ancestry
        self._sampling = sampling
        self._digests = {arm.name: settings_digest(arm.correct, identities) for arm in plan.arms}

    @property
    def name(self) -> str:
        return "corrector"

    @property
    def inputs(self) -> tuple[Topic, ...]:
        return (VERDICTS, GROUPS)

    async def prepare(self, messages: Sequence[Message]) -> None:
        return

    def key(self, message: Message) -> str | None:
        return None

    async def work(self, message: Message) -> Produced:
        record, context = message.record, message.context
        if isinstance(record, Group):
            return Produced(messages=tuple(self._on_group(record, context)))
        if context.unit is None or context.siblings:  # a base sample: its group decides
            return Produced()
        return Produced(messages=(await self._on_verdict(record, context.unit, context),))

    async def follow(self, messages: Sequence[Message]) -> Sequence[Message]:
        return ()

    def dead(self, message: Message, reason: str) -> Sequence[Message]:
        record, context = message.record, message.context
        if isinstance(record, Group):
            units = tuple(unit for arm in self._deciding(context) for unit in _units_of(arm, record))
        else:
            units = (context.unit,) if context.unit is not None else ()
        return [_outcome(Conclude(unit=unit, state=OutcomeState.DEAD, reason=reason), context) for unit in units]

    def _on_group(self, group: Group, context: Context) -> list[Message]:
        messages = []
        for arm in self._deciding(context):
            for unit in _units_of(arm, group):
                action = decide(arm, group, unit=unit, epoch=context.epoch)
                messages.append(self._message(action, arm, context))
        return messages

    def _deciding(self, context: Context) -> list[ArmCorrection]:
        """The arms that a group is for: all of them, or the one whose units it was redriven for."""
        return [arm for arm in self._plan.arms if context.unit is None or arm.name == context.unit.arm]

    async def _on_verdict(self, verdict: Verdict, unit: Unit, context: Context) -> Message:
        arm = self._plan.arm(unit.arm)
        if arm is None:
            raise Reject("unknown_arm", f"the plan has no arm '{unit.arm}' that owns units")
        trajectory = verdict.trajectory
        original = await self._ancestry.original(trajectory)
        if original is None:
            raise Reject("original_missing", f"no verdict is stored on the sample that {trajectory.id} goes back to")
        action = decide(arm, verdict, unit=unit, original=original, epoch=context.epoch)
        return self._message(action, arm, context)

    def _message(self, action: Action, arm: ArmCorrection, context: Context) -> Message:
        if isinstance(action, Conclude):
            return _outcome(action, context)
        of_unit = _of_unit(context, action.unit)
        if isinstance(action, AskTeacher):
            request = rewrite_request(action, settings=self._digests[arm.name])
            return Message(topic=REWRITES, record=request, context=of_unit)
        fork = fork_request(action, sampling=self._sampling, revision=arm.correct.revision)
        return Message(topic=CONTINUATIONS, record=fork, context=of_unit)


class TeacherStage:
    """Has the strong models of a plan write what the corrector asks for. The work key is the request's id."""

    def __init__(self, plan: CorrectionPlan, models: Mapping[str, TextModel]) -> None:
        self._service = TeacherService(plan, models)

    @property
    def name(self) -> str:
        return STAGE

    @property
    def inputs(self) -> tuple[Topic, ...]:
        return (REWRITES,)

    async def prepare(self, messages: Sequence[Message]) -> None:
        return

    def key(self, message: Message) -> str | None:
        request: RewriteRequest = message.record
        return request.id

    async def work(self, message: Message) -> Produced:
        written = await self._service.write(message.record)
        answer = Message(topic=TRAJECTORIES, record=written.trajectory, context=message.context)
        return Produced(messages=(answer,), cost=written.cost)

    async def follow(self, messages: Sequence[Message]) -> Sequence[Message]:
        return ()

    def dead(self, message: Message, reason: str) -> Sequence[Message]:
        # An outcome would name the unit, and the result is shared by every unit that asked for the same text: the dead
        # trajectory goes round by the judge, and the corrector ends each unit by itself.
        return (Message(topic=TRAJECTORIES, record=given_up(message.record, reason), context=message.context),)


def _units_of(arm: ArmCorrection, group: Group) -> tuple[Unit, ...]:
    return arm_units(arm, group.prompt, len(group.verdicts))


def _outcome(action: Conclude, context: Context) -> Message:
    final = action.final.id if action.final is not None else ""
    outcome = Outcome(
        id=make_id("outcome", action.unit, action.state, action.reason, final),
        unit=action.unit,
        state=action.state,
        reason=action.reason,
        final=action.final,
        original=action.original,
    )
    return Message(topic=OUTCOMES, record=outcome, context=_of_unit(context, action.unit))


def _of_unit(context: Context, unit: Unit) -> Context:
    """The context of what belongs to one unit alone: it joins no siblings any more."""
    return dataclasses.replace(context, unit=unit, siblings=())
