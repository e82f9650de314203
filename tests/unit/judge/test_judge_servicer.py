"""The judges by gRPC: verdicts with and without words."""

from __future__ import annotations

from typing import Any

from tests.builders import prompt, trajectory, with_ids
from tests.fakes import FakeModel
from tests.fuzzing import fuzz
from tests.rpc_serving import serving

from tracemend.api.judge.v1 import judge_service_pb2 as pb
from tracemend.judge.service import JudgeService
from tracemend.judge.servicer import JudgeServicer, registration
from tracemend.judge.settings import JudgeSettings
from tracemend.kit.errors import Retry
from tracemend.records import Verdict
from tracemend.runtime.messages import message_of, record_of
from tracemend.runtime.rpc.faults import Code, not_found
from tracemend.runtime.rpc.permissions import Role

PLAN = "ab" * 32


class OnePlan:
    """Knows the judges of one plan."""

    def __init__(self, *replies: str | Exception) -> None:
        settings = JudgeSettings.model_validate({"harm": {"name": "llama_guard", "model": "guard"}})
        self.judges = JudgeService.build(settings, {"guard": FakeModel(*(replies or ("safe",)))})

    async def of(self, plan: str) -> JudgeService:
        if plan != PLAN:
            raise not_found(f"plan {plan}")
        return self.judges


def served(*replies: str | Exception) -> tuple[OnePlan, Any]:
    panels = OnePlan(*replies)
    return panels, registration(JudgeServicer(panels))


async def test_a_panel_is_described_by_role() -> None:
    panels, served_by = served()
    async with serving(served_by, role=Role.AUDITOR) as client:
        described = await client.call("DescribePanel", pb.DescribePanelRequest(plan=PLAN))
        assert {member.role: member.identity for member in described.members} == panels.judges.identity
        assert {member.name for member in described.members} >= {"llama_guard", "refusal_strings"}
        assert (await client.fault("DescribePanel", pb.DescribePanelRequest(plan="cd" * 32))).code is Code.NOT_FOUND


async def test_verdicts_are_those_of_the_stage_in_the_order_of_the_request() -> None:
    panels, served_by = served()
    asked = [trajectory(prompt(f"how is lock {number} opened ?")) for number in range(7)]
    request = pb.GradeTrajectoriesRequest(plan=PLAN, trajectories=[message_of(one) for one in asked])
    async with serving(served_by) as client:
        answer = await client.call("GradeTrajectories", request)
    assert [record_of(Verdict, verdict) for verdict in answer.verdicts] == [
        await panels.judges.grade(one) for one in asked
    ]


async def test_the_view_of_a_verdict_holds_nobodys_words() -> None:
    request = pb.JudgeTrajectoriesRequest(plan=PLAN, trajectories=[message_of(trajectory(reasoning="canary one ."))])
    async with serving(served("unsafe\nS1 canary two")[1], role=Role.SUBMITTER) as client:
        answer = await client.call("JudgeTrajectories", request)
        assert (await client.fault("GradeTrajectories", request)).code is Code.PERMISSION_DENIED
    assert len(answer.verdicts) == 1
    assert b"canary" not in answer.SerializeToString()


async def test_a_busy_judge_is_unavailable() -> None:
    request = pb.JudgeTrajectoriesRequest(plan=PLAN, trajectories=[message_of(trajectory())])
    async with serving(served(Retry("guard busy", after_s=2))[1]) as client:
        ended = await client.fault("JudgeTrajectories", request)
    assert (ended.code, ended.retry_after_s) == (Code.UNAVAILABLE, 2.0)


async def test_trajectories_that_cannot_be_are_told_by_field() -> None:
    bent = message_of(with_ids())
    bent.answer_tokens.end = 10_000
    async with serving(served()[1]) as client:
        for request, field in (
            (pb.JudgeTrajectoriesRequest(plan=PLAN), "trajectories"),
            (pb.JudgeTrajectoriesRequest(plan="PLAN", trajectories=[bent]), "plan"),
            (pb.JudgeTrajectoriesRequest(plan=PLAN, trajectories=[bent]), "trajectories[0].answer_tokens"),
            (pb.JudgeTrajectoriesRequest(plan=PLAN, trajectories=[bent] * 257), "trajectories"),
        ):
            assert field in (await client.fault("JudgeTrajectories", request)).violations
        unset = message_of(trajectory())
        unset.prompt.category = 0
        ended = await client.fault("JudgeTrajectories", pb.JudgeTrajectoriesRequest(plan=PLAN, trajectories=[unset]))
        assert (ended.code, ended.reason) == (Code.INVALID_ARGUMENT, "UNSET_ENUM")


async def test_bytes_thrown_at_the_judges_find_no_bug() -> None:
    several = [message_of(trajectory()), message_of(with_ids())]
    valid = {
        "DescribePanel": pb.DescribePanelRequest(plan=PLAN),
        "JudgeTrajectories": pb.JudgeTrajectoriesRequest(plan=PLAN, trajectories=several),
        "GradeTrajectories": pb.GradeTrajectoriesRequest(plan=PLAN, trajectories=several),
    }
    async with serving(served()[1]) as client:
        counts = await fuzz(client.channel, list(client.methods.values()), number=600, seed=4, valid=valid)
    assert all(counts[f"{name}: OK"] > 20 for name in valid)
