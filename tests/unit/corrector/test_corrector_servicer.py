"""Correcting one trajectory by gRPC: what an arm would make of it in a run."""

from __future__ import annotations

from typing import Any

from tests.builders import cue_at, prompt, rewritten, trajectory, verdict, with_ids
from tests.fakes import FakeModel
from tests.fuzzing import fuzz
from tests.rpc_serving import serving
from tests.unit.corrector.corrector_plans import arm, plan

from tracemend.api.corrector.v1 import corrector_service_pb2 as pb
from tracemend.api.records.v1 import records_pb2
from tracemend.corrector.service import TeacherService
from tracemend.corrector.servicer import Correcting, CorrectorServicer, registration
from tracemend.records import Category, GenerationRequest, Sampling, Trajectory, Value, Verdict
from tracemend.runtime.messages import message_of, record_of
from tracemend.runtime.rpc.faults import Code
from tracemend.runtime.rpc.permissions import Role

PLAN = "ab" * 32
GOOD = "<reasoning>they could be hurt .</reasoning><answer>no .</answer>"
ARMS = (arm("rewrite", name="mend", rule="all_unsafe"), arm("intervene", name="fork"))


class OnePlan:
    def __init__(self) -> None:
        models = {"strong": FakeModel(GOOD, identity="strong-1")}
        self.correcting = Correcting(
            plan=plan(*ARMS),
            teachers=TeacherService(plan(*ARMS), models),
            identities={"strong": "strong-1"},
            sampling=Sampling(max_new_tokens=100),
        )

    async def of(self, _plan: str) -> Correcting:
        return self.correcting


def served() -> Any:
    return registration(CorrectorServicer(OnePlan()))


def asking(about: Verdict, *, arm: str = "mend", **fields: Any) -> Any:
    return pb.CorrectTrajectoryRequest(plan=PLAN, arm=arm, verdict=message_of(about), **fields)


async def test_the_arms_are_described_with_their_teachers() -> None:
    async with serving(served(), role=Role.SUBMITTER) as client:
        described = await client.call("DescribeStrategies", pb.DescribeStrategiesRequest(plan=PLAN))
    found = [(one.arm, one.name, one.teacher_identity) for one in described.strategies]
    assert found == [("mend", "rewrite", "strong-1"), ("fork", "intervene", "strong-1")]


async def test_an_unsafe_trajectory_is_rewritten_and_keeps_its_sample() -> None:
    about = verdict(Value.UNSAFE, trajectory(sample=3))
    async with serving(served()) as client:
        answer = await client.call("CorrectTrajectory", asking(about))
    written = record_of(Trajectory, answer.rewritten)
    assert (written.parent, written.sample, written.answer.reveal()) == (about.trajectory.id, 3, "no .")


async def test_another_attempt_is_another_text() -> None:
    about = verdict(Value.UNSAFE)
    async with serving(served()) as client:
        first, again, second = [
            await client.call("CorrectTrajectory", asking(about, attempt=attempt)) for attempt in (1, 1, 2)
        ]
    assert first == again
    assert first.rewritten.id != second.rewritten.id


async def test_a_cue_gives_a_continuation_from_exactly_the_kept_ids() -> None:
    about = verdict(Value.UNSAFE, with_ids(sample=2), cue=cue_at(3, token=6))
    async with serving(served()) as client:
        answer = await client.call("CorrectTrajectory", asking(about, arm="fork"))
        fork = record_of(GenerationRequest, answer.continuation)
        assert (fork.prefix_tokens, fork.sample, fork.round) == (about.trajectory.token_ids[:6], 2, 1)
        unknown = await client.fault("CorrectTrajectory", asking(about, arm="fork", variant="no such trigger"))
        assert "variant" in unknown.violations


async def test_a_safe_trajectory_ends_unselected() -> None:
    async with serving(served()) as client:
        answer = await client.call("CorrectTrajectory", asking(verdict(Value.SAFE)))
    assert (answer.ending.state, answer.ending.reason) == (records_pb2.OUTCOME_STATE_NOT_SELECTED, "easy")


async def test_what_cannot_be_corrected_is_told_why() -> None:
    mended = verdict(Value.UNSAFE, rewritten(verdict(Value.UNSAFE)))
    beyond = verdict(Value.UNSAFE, with_ids(), cue=cue_at(3, token=999))
    async with serving(served()) as client:
        assert "arm" in (await client.fault("CorrectTrajectory", asking(mended, arm="none"))).violations
        assert (await client.fault("CorrectTrajectory", asking(mended))).reason == "ALREADY_MENDED"
        assert "verdict" in (await client.fault("CorrectTrajectory", asking(beyond, arm="fork"))).violations
        benign = verdict(Value.SAFE, trajectory(prompt(category=Category.BENIGN)))
        kept = await client.call("CorrectTrajectory", asking(benign))
        assert kept.ending.state == records_pb2.OUTCOME_STATE_KEPT
    async with serving(served(), role=Role.OPERATOR) as client:
        assert (await client.fault("CorrectTrajectory", asking(mended))).code is Code.PERMISSION_DENIED


async def test_bytes_thrown_at_the_corrector_find_no_bug() -> None:
    forkable = verdict(Value.UNSAFE, with_ids(), cue=cue_at(3, token=6))
    for number, about in enumerate((asking(verdict(Value.UNSAFE)), asking(forkable, arm="fork"))):
        async with serving(served()) as client:
            counts = await fuzz(
                client.channel,
                list(client.methods.values()),
                number=400,
                seed=number,
                valid={"CorrectTrajectory": about},
            )
        assert counts["CorrectTrajectory: OK"] > 20
