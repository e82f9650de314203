"""The gRPC face of the judges: trajectories in, verdicts out, with or without anybody's words.

Registered by the judge program, which hands in how a plan's digest becomes its judges (`Panels`). Nothing is stored:
judging is a function of the trajectory and the plan. Trajectories come from outside, so spans are checked before a
judge or a detector relies on them.
"""
# ruff: noqa: N802 - methods are called what the proto calls them

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from tracemend.api.judge.v1 import judge_service_pb2 as pb
from tracemend.judge.concurrently import all_of
from tracemend.judge.service import JudgeService
from tracemend.records import Trajectory, Verdict
from tracemend.runtime.messages import message_of, record_of
from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.server import Registration
from tracemend.runtime.rpc.validators import Validators, at_most, check, matching, required, within
from tracemend.runtime.views import verdict_view

MAX_TRAJECTORIES = 256


class Panels(Protocol):
    """Judges by plan."""

    async def of(self, plan: str) -> JudgeService:
        """The judges of the plan with this digest. Raises `Fault` (`not_found`) where there is no such plan."""
        ...


class JudgeServicer:
    """`tracemend.api.judge.v1.JudgeService`."""

    def __init__(self, panels: Panels) -> None:
        self._panels = panels

    async def DescribePanel(self, request: Any, call: Call) -> Any:
        judges = await self._panels.of(request.plan)
        return pb.DescribePanelResponse(
            members=[
                pb.PanelMember(role=role, name=identity.partition(":")[0], identity=identity)
                for role, identity in sorted(judges.identity.items())
            ]
        )

    async def JudgeTrajectories(self, request: Any, call: Call) -> Any:
        verdicts = await self._verdicts(request)
        return pb.JudgeTrajectoriesResponse(verdicts=[verdict_view(verdict) for verdict in verdicts])

    async def GradeTrajectories(self, request: Any, call: Call) -> Any:
        verdicts = await self._verdicts(request)
        return pb.GradeTrajectoriesResponse(verdicts=[message_of(verdict) for verdict in verdicts])

    async def _verdicts(self, request: Any) -> Sequence[Verdict]:
        judges = await self._panels.of(request.plan)
        trajectories = [record_of(Trajectory, message) for message in request.trajectories]
        return await all_of(judges.grade(trajectory) for trajectory in trajectories)


def registration(servicer: JudgeServicer) -> Registration:
    """What a server needs to serve it."""
    return Registration(
        service=pb.DESCRIPTOR.services_by_name["JudgeService"], servicer=servicer, validators=_VALIDATORS
    )


def _spans(trajectory: Any) -> Iterator[tuple[str, str]]:
    """Spans lie in the trajectory's own token ids."""
    for field in ("reasoning_tokens", "answer_tokens"):
        span = getattr(trajectory, field)
        if not 0 <= span.start <= span.end <= len(trajectory.token_ids):
            yield field, "does not lie in token_ids"


_PACKAGE = "tracemend.api.judge.v1"
_PLAN = check(required("plan"), matching("plan", "[0-9a-f]{64}"))
_TRAJECTORIES = check(
    _PLAN,
    required("trajectories"),
    at_most("trajectories", MAX_TRAJECTORIES),
    within("trajectories", check(required("id", "prompt"), _spans)),
)
_VALIDATORS: Validators = {
    f"{_PACKAGE}.DescribePanelRequest": _PLAN,
    f"{_PACKAGE}.JudgeTrajectoriesRequest": _TRAJECTORIES,
    f"{_PACKAGE}.GradeTrajectoriesRequest": _TRAJECTORIES,
}
