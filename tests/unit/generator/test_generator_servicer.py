"""The generator by gRPC: the same trajectories as on the bus, for whoever may read them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.builders import prompt
from tests.fakes import FakeModel
from tests.fuzzing import fuzz
from tests.rpc_serving import serving

from tracemend.api.generator.v1 import generator_service_pb2 as pb
from tracemend.api.records.v1 import records_pb2
from tracemend.generator.service import Generator, plan_samples
from tracemend.generator.servicer import GeneratorServicer, Served, registration
from tracemend.kit.errors import Retry
from tracemend.kit.ports import ModelRequest
from tracemend.records import GenerationRequest, Sampling, Trajectory
from tracemend.runtime.messages import message_of, record_of
from tracemend.runtime.rpc.faults import Code
from tracemend.runtime.rpc.permissions import Role
from tracemend.traces.formats import get_format

REPLY = "<think>a lever would do .</think>pull it ."


def served(model: FakeModel | None = None) -> tuple[Generator, Any]:
    model = model or FakeModel(REPLY)
    generator = Generator(model, template=None, reasoning_format=get_format("think"))
    parts = Served(
        target="small",
        generator=generator,
        engine="scripted",
        reasoning_format="think",
        capabilities=model.capabilities,
    )
    return generator, registration(GeneratorServicer(parts))


async def test_what_is_served_is_described() -> None:
    generator, served_by = served()
    async with serving(served_by, role=Role.SUBMITTER) as client:
        described = await client.call("DescribeModel", pb.DescribeModelRequest())
        assert (described.model.target, described.model.identity) == ("small", generator.identity)
        assert described.model.capabilities.seeds
        assert not described.model.capabilities.token_ids
        assert (await client.fault("DescribeModel", pb.DescribeModelRequest(target="large"))).code is Code.NOT_FOUND


async def test_samples_are_those_that_the_bus_would_have_given() -> None:
    generator, served_by = served()
    of = prompt()
    request = pb.GenerateRequest(prompt=message_of(of), num_samples=3)
    async with serving(served_by) as client:
        answer = await client.call("Generate", request)
    planned = plan_samples(of, model=generator.identity, sampling=Sampling(), num_samples=3)
    assert [record_of(Trajectory, message) for message in answer.trajectories] == [
        await generator.generate(one) for one in planned
    ]


async def test_a_prompt_as_people_send_it_needs_no_id() -> None:
    bare = records_pb2.Prompt(text="how is it opened ?", category=records_pb2.CATEGORY_BENIGN)
    async with serving(served()[1]) as client:
        answer = await client.call("Generate", pb.GenerateRequest(prompt=bare))
    assert answer.trajectories[0].prompt.id.startswith("prompt_")


async def test_people_must_be_reviewers_and_say_why() -> None:
    request = pb.GenerateRequest(prompt=message_of(prompt()))
    async with serving(served()[1], role=Role.OPERATOR) as client:
        assert (await client.fault("Generate", request)).code is Code.PERMISSION_DENIED
    async with serving(served()[1], role=Role.REVIEWER) as client:
        assert (await client.fault("Generate", request)).reason == "PURPOSE_REQUIRED"
        await client.call("Generate", request, x_tracemend_purpose="looking at case 7")
        assert [entry.purpose for entry in client.audit.appended] == ["looking at case 7"]


async def test_another_model_than_the_one_that_is_served_is_refused() -> None:
    request = pb.GenerateRequest(prompt=message_of(prompt()), model="model_other")
    async with serving(served()[1]) as client:
        assert (await client.fault("Generate", request)).reason == "OTHER_MODEL"


async def test_a_continuation_of_an_engine_without_token_ids_is_refused_in_words() -> None:
    generator, served_by = served()
    (fresh,) = plan_samples(prompt(), model=generator.identity, sampling=Sampling(), num_samples=1)
    async with serving(served_by) as client:
        answer = await client.call("Continue", pb.ContinueRequest(request=message_of(fresh)))
        assert record_of(Trajectory, answer.trajectory) == await generator.generate(fresh)
        fork = message_of(fresh)
        fork.prefix_tokens.extend([1, 2])
        assert (await client.fault("Continue", pb.ContinueRequest(request=fork))).reason == "NO_TOKEN_IDS"
        assert record_of(GenerationRequest, fork).prefix_tokens == (1, 2)


async def test_a_busy_engine_asks_for_patience_and_calls_the_other_samples_off() -> None:
    def busy(_request: ModelRequest) -> str:
        raise Retry("engine busy", after_s=4)

    async with serving(served(FakeModel(by=busy))[1]) as client:
        ended = await client.fault("Generate", pb.GenerateRequest(prompt=message_of(prompt()), num_samples=5))
    assert (ended.code, ended.reason, ended.retry_after_s) == (Code.UNAVAILABLE, "ENGINE_BUSY", 4.0)


@pytest.mark.parametrize(
    ("request_of", "field"),
    [
        (pb.GenerateRequest, "prompt"),
        (lambda: pb.GenerateRequest(prompt=records_pb2.Prompt(id="a")), "prompt.text"),
        (lambda: pb.GenerateRequest(prompt=message_of(prompt()), num_samples=65), "num_samples"),
        (
            lambda: pb.GenerateRequest(
                prompt=message_of(prompt()), sampling=records_pb2.Sampling(temperature=float("nan"))
            ),
            "sampling.temperature",
        ),
    ],
)
async def test_what_no_engine_could_do_is_told_by_field(request_of: Any, field: str) -> None:
    async with serving(served()[1]) as client:
        assert field in (await client.fault("Generate", request_of())).violations


async def test_bytes_thrown_at_the_generator_find_no_bug() -> None:
    generator, served_by = served()
    (fresh,) = plan_samples(prompt(), model=generator.identity, sampling=Sampling(), num_samples=1)
    valid = {
        "Generate": pb.GenerateRequest(prompt=message_of(prompt()), num_samples=2),
        "Continue": pb.ContinueRequest(request=message_of(fresh)),
    }
    async with serving(served_by) as client:
        counts = await fuzz(client.channel, list(client.methods.values()), number=900, seed=3, valid=valid)
    assert all(counts[f"{name}: OK"] > 20 for name in valid)
