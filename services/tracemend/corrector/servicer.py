"""The gRPC face of correcting: what an arm of a plan makes of one judged trajectory.

Registered by the corrector program, which hands in how a plan's digest becomes what its arms correct with
(`Corrections`). The trajectory is taken for the only sample of its prompt, and decided on by the same pure table as in
a run; nothing is stored.
"""
# ruff: noqa: N802 - methods are called what the proto calls them

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from tracemend.api.corrector.v1 import corrector_service_pb2 as pb
from tracemend.api.records.v1 import records_pb2
from tracemend.corrector.actions import Action, AskTeacher, Conclude
from tracemend.corrector.decide import arm_units, decide
from tracemend.corrector.requests import fork_request, rewrite_request, settings_digest
from tracemend.corrector.service import TeacherService
from tracemend.corrector.settings import ArmCorrection, CorrectionPlan
from tracemend.kit.ids import make_id
from tracemend.records import Group, Sampling, Unit, Verdict
from tracemend.runtime.messages import message_of, record_of
from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.faults import invalid, precondition
from tracemend.runtime.rpc.server import Registration
from tracemend.runtime.rpc.validators import Validators, at_most, between, check, matching, required

MAX_ATTEMPTS = 1000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Correcting:
    """What the arms of one plan correct with."""

    plan: CorrectionPlan
    teachers: TeacherService
    identities: Mapping[str, str]
    """The run file's model names to what the engines call themselves."""
    sampling: Sampling
    """How the target's fresh samples are drawn, forks as well."""


class Corrections(Protocol):
    """Correction by plan."""

    async def of(self, plan: str) -> Correcting:
        """What the plan with this digest says. Raises `Fault` (`not_found`) where there is no such plan."""
        ...


class CorrectorServicer:
    """`tracemend.api.corrector.v1.CorrectorService`."""

    def __init__(self, corrections: Corrections) -> None:
        self._corrections = corrections

    async def DescribeStrategies(self, request: Any, call: Call) -> Any:
        correcting = await self._corrections.of(request.plan)
        strategies = [
            pb.Strategy(
                arm=arm.name,
                name=arm.correct.strategy,
                teacher=arm.correct.teacher,
                teacher_identity=correcting.identities.get(arm.correct.teacher, ""),
            )
            for arm in correcting.plan.arms
        ]
        return pb.DescribeStrategiesResponse(strategies=strategies)

    async def CorrectTrajectory(self, request: Any, call: Call) -> Any:
        correcting = await self._corrections.of(request.plan)
        arm = correcting.plan.arm(request.arm)
        if arm is None:
            raise invalid(arm=f"the plan's arms that correct are {', '.join(a.name for a in correcting.plan.arms)}")
        verdict = record_of(Verdict, request.verdict)
        _check(verdict)
        sample = verdict.trajectory.sample
        only = dataclasses.replace(verdict, trajectory=dataclasses.replace(verdict.trajectory, sample=0))
        unit = _unit(arm, only, request.variant)
        group = Group(id=make_id("group", only.id), prompt=only.trajectory.prompt, verdicts=(only,))
        return await self._carry_out(decide(arm, group, unit=unit), arm, correcting, request.attempt or 1, sample)

    async def _carry_out(
        self, action: Action, arm: ArmCorrection, correcting: Correcting, attempt: int, sample: int
    ) -> Any:
        if isinstance(action, Conclude):
            return pb.CorrectTrajectoryResponse(ending=_ending(action))
        asked = dataclasses.replace(action, attempt=attempt)
        if isinstance(asked, AskTeacher):
            digest = settings_digest(arm.correct, correcting.identities)
            written = await correcting.teachers.write(rewrite_request(asked, settings=digest))
            rewritten = dataclasses.replace(written.trajectory, sample=sample)
            return pb.CorrectTrajectoryResponse(rewritten=message_of(rewritten))
        fork = fork_request(asked, sampling=correcting.sampling, revision=arm.correct.revision)
        return pb.CorrectTrajectoryResponse(continuation=message_of(dataclasses.replace(fork, sample=sample)))


def _check(verdict: Verdict) -> None:
    trajectory = verdict.trajectory
    if trajectory.intervention is not None and trajectory.parent:
        raise precondition("ALREADY_MENDED", "the verdict must be on the target's own sample, not on a mended one")
    if verdict.cue is not None and not -1 <= verdict.cue.token <= len(trajectory.token_ids):
        raise invalid(verdict="cue.token does not lie in the trajectory's token_ids")


def _unit(arm: ArmCorrection, verdict: Verdict, variant: str) -> Unit:
    units = arm_units(arm, verdict.trajectory.prompt, 1)
    if not units:
        raise precondition("NOT_ITS_PROMPTS", f"arm '{arm.name}' leaves prompts of this category alone", arm=arm.name)
    if not variant:
        return units[0]
    known = {unit.variant: unit for unit in units}
    if variant not in known:
        raise invalid(variant=f"is none of the arm's: {', '.join(sorted(known))}")
    return known[variant]


def _ending(action: Conclude) -> Any:
    state = records_pb2.OutcomeState.Value(f"OUTCOME_STATE_{action.state.name}")
    return pb.Ending(state=state, reason=action.reason)


def registration(servicer: CorrectorServicer) -> Registration:
    """What a server needs to serve it."""
    return Registration(
        service=pb.DESCRIPTOR.services_by_name["CorrectorService"], servicer=servicer, validators=_VALIDATORS
    )


_PACKAGE = "tracemend.api.corrector.v1"
_PLAN = check(required("plan"), matching("plan", "[0-9a-f]{64}"))
_VALIDATORS: Validators = {
    f"{_PACKAGE}.DescribeStrategiesRequest": _PLAN,
    f"{_PACKAGE}.CorrectTrajectoryRequest": check(
        _PLAN,
        required("arm", "verdict"),
        at_most("arm", 128),
        at_most("variant", 128),
        between("attempt", 0, MAX_ATTEMPTS),
    ),
}
