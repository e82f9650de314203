"""The gRPC face of the generator: what is served, samples of it, and continuations from token ids.

Registered by the generator program. Nothing is stored: a request with a seed is a function of the model. Replies hold
the model's words, so these methods are for services and reviewers, and the server's chain audits the latter.
"""
# ruff: noqa: N802 - methods are called what the proto calls them

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

from tracemend.api.generator.v1 import generator_service_pb2 as pb
from tracemend.generator.service import Generator, plan_samples
from tracemend.kit.ids import make_id
from tracemend.kit.ports import Capabilities
from tracemend.records import GenerationRequest, Prompt, Sampling, Trajectory
from tracemend.runtime.messages import message_of, record_of
from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.faults import not_found, precondition, unavailable
from tracemend.runtime.rpc.server import Registration
from tracemend.runtime.rpc.validators import Validators, at_most, between, check, required, within

MAX_SAMPLES = 64
MAX_NEW_TOKENS = 131_072
_MAX_INT = 2**63 - 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The one target that this process serves."""

    target: str
    """The name by which run files and topics know it."""
    generator: Generator
    engine: str
    """`transformers`, `vllm`, `openai` or `scripted`."""
    reasoning_format: str
    capabilities: Capabilities


class GeneratorServicer:
    """`tracemend.api.generator.v1.GeneratorService`. Until it is told what it serves, every method is UNAVAILABLE."""

    def __init__(self, served: Served | None = None) -> None:
        self._known = served

    def serve(self, served: Served) -> None:
        """Answer for `served` from now on."""
        self._known = served

    def close(self, served: Served) -> bool:
        """The engine of `served` closes: answer for it no more. Whether it was the one that is answered for."""
        is_current = self._known is served
        if is_current:
            self._known = None
        return is_current

    @property
    def _served(self) -> Served:
        if self._known is None:
            message = "no model is served here yet: it opens with the first run that is worked on"
            raise unavailable("NO_MODEL_YET", message, retry_after_s=5.0)
        return self._known

    async def DescribeModel(self, request: Any, call: Call) -> Any:
        served = self._served
        can = served.capabilities
        if request.target not in ("", served.target):
            raise not_found(f"served target '{request.target[:64]}'")
        capabilities = pb.Capabilities(
            token_ids=can.token_ids,
            logprobs=can.logprobs,
            attentions=can.attentions,
            prefix_cache=can.prefix_cache,
            seeds=can.seeds,
            max_model_tokens=can.max_model_len,
        )
        return pb.DescribeModelResponse(
            model=pb.Model(
                target=served.target,
                identity=served.generator.identity,
                engine=served.engine,
                reasoning_format=served.reasoning_format,
                capabilities=capabilities,
            )
        )

    async def Generate(self, request: Any, call: Call) -> Any:
        self._check_model(request.model)
        prompt, sampling = _prompt(request.prompt), record_of(Sampling, request.sampling)
        requests = plan_samples(
            prompt, model=self._served.generator.identity, sampling=sampling, num_samples=request.num_samples or 1
        )
        trajectories = await self._all(requests)
        return pb.GenerateResponse(trajectories=[message_of(trajectory) for trajectory in trajectories])

    async def Continue(self, request: Any, call: Call) -> Any:
        wanted = record_of(GenerationRequest, request.request)
        self._check_model(wanted.model)
        (trajectory,) = await self._all([wanted])
        return pb.ContinueResponse(trajectory=message_of(trajectory))

    async def _all(self, requests: Sequence[GenerationRequest]) -> Sequence[Trajectory]:
        """All trajectories, in order; the first error calls the other samples off."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._served.generator.generate(request)) for request in requests]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    def _check_model(self, asked: str) -> None:
        identity = self._served.generator.identity
        if asked and asked != identity:
            raise precondition(
                "OTHER_MODEL", f"the served model is {identity}; describe it and ask again", model=identity
            )


def _prompt(message: Any) -> Prompt:
    """The prompt; one without an id, as people send it, gets the one of its content."""
    prompt = record_of(Prompt, message)
    return prompt if prompt.id else dataclasses.replace(prompt, id=make_id("prompt", prompt.text, prompt.category))


def registration(servicer: GeneratorServicer) -> Registration:
    """What a server needs to serve it."""
    return Registration(
        service=pb.DESCRIPTOR.services_by_name["GeneratorService"], servicer=servicer, validators=_VALIDATORS
    )


def _sampling(message: Any) -> Any:
    """What is set must make sense to an engine; what is unset has the record's default."""
    for field, low, high in (("temperature", 0, 100), ("top_p", 1e-6, 1), ("repetition_penalty", 1e-3, 100)):
        if message.HasField(field):
            yield from between(field, low, high)(message)
    if message.HasField("max_new_tokens"):
        yield from between("max_new_tokens", 1, MAX_NEW_TOKENS)(message)
    yield from between("top_k", 0, 2**31 - 1)(message)


_PACKAGE = "tracemend.api.generator.v1"
_PROMPT = required("text", "category")
_VALIDATORS: Validators = {
    f"{_PACKAGE}.GenerateRequest": check(
        required("prompt"),
        within("prompt", _PROMPT),
        within("sampling", _sampling),
        between("num_samples", 0, MAX_SAMPLES),
    ),
    f"{_PACKAGE}.ContinueRequest": check(
        required("request"),
        within(
            "request",
            check(
                required("id", "prompt", "model"),
                within("prompt", _PROMPT),
                within("sampling", _sampling),
                between("sample", 0, _MAX_INT),
                between("seed", 0, _MAX_INT),
                between("round", 0, _MAX_INT),
                at_most("prefix_tokens", MAX_NEW_TOKENS),
            ),
        ),
    ),
}
