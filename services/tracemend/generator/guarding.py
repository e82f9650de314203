"""Guards: what may change a response while the target writes it, and a generator that writes under one.

A guard is a plug-in (`generator/guards`, entry points `tracemend.guards`): a factory of an object that writes one
response with an engine and tells, piece by piece, what may be shown of it. `GuardedGenerator` drains the pieces for
evaluation arms; `guard_server` sends them to a client as they come. Detectors reach a guard as the `CueFinder` port and
triggers as plain sentences, so this slice knows neither judges nor pools.

Invariants: what has been shown stays a prefix of the finished response; token ids are what the engine drew and what the
guard put in, never a text encoded again; what was drawn and thrown away is counted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from tracemend.generator.service import Generator, plan_samples
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import make_id
from tracemend.kit.ports import Completion, TextModel
from tracemend.kit.registry import Registry
from tracemend.records import Finish, GenerationRequest, Intervention, Part, Prompt, Sampling, Trajectory
from tracemend.redaction import Text
from tracemend.traces.template import ChatTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A sentence that a guard may put in the place of a cue."""

    id: str
    text: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One response to write."""

    prompt: Prompt
    """What detectors are told of the conversation."""
    prompt_tokens: tuple[int, ...]
    """What the engine continues."""
    sampling: Sampling
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """More of the response that may be shown: it follows what was shown of its part before."""

    part: Part
    text: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What guarding one response took, in tokens of the target, and what it met."""

    num_prompt_tokens: int = 0
    """Read by the engine, over all of its calls."""
    num_cached_tokens: int = 0
    """Of these, what it took from a cache."""
    num_new_tokens: int = 0
    """Drawn by the engine, the discarded ones included."""
    num_discarded_tokens: int = 0
    num_inserted_tokens: int = 0
    num_calls: int = 0
    num_looks: int = 0
    """Times the detector was asked."""
    num_unknown: int = 0
    """Times it could not tell."""
    num_cues: int = 0
    num_interventions: int = 0
    is_refused: bool = False
    """The guard ended the response with a refusal of its own."""
    seconds: float = 0.0
    """Engine time."""
    look_seconds: float = 0.0
    """Time spent waiting for the detector."""
    money: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """The finished response."""

    token_ids: tuple[int, ...]
    num_reasoning_tokens: int
    """Of these, the ids of what was shown as reasoning."""
    finish: Finish
    tally: Tally
    intervention: Intervention | None
    """The first cue and what was done about it (`failure` says `monitored` where nothing was); None without a cue."""


class Guard(Protocol):
    """Writes responses, one `write` per response; any number at once."""

    @property
    def identity(self) -> str:
        """`<plug-in>:<digest>` of all that decides what it does."""
        ...

    def write(
        self, assignment: Assignment, *, model: TextModel, template: ChatTemplate
    ) -> AsyncGenerator[Piece | Guarded, None]:
        """The pieces of the response as they may be shown, and at last the whole. Raises what engine and detector
        raise; closing the iterator gives the response up."""
        ...


GuardFactory: TypeAlias = Callable[..., Guard]
"""A guard plug-in. Keyword options; `mode`, `finder` (a `CueFinder` or None) and `triggers` are given to one that takes
them."""

guards: Registry[GuardFactory] = Registry("guard", package="tracemend.generator.guards", group="tracemend.guards")


class GuardedGenerator(Generator):
    """A generator whose engine writes under `guard`; its trajectories are measured like any other's."""

    def __init__(self, inner: Generator, guard: Guard) -> None:
        """`SetupError` where the engine gives no token ids: a cut must keep the exact ids before it."""
        super().__init__(
            inner._model,
            template=inner._template,
            reasoning_format=inner._format,
            system=inner._system,
            revision=inner._revision,
        )
        self._guard = guard
        self._guarded_template = needed_template(inner._model, inner._template)

    @property
    def identity(self) -> str:
        return make_id("guarded", super().identity, self._guard.identity)

    async def generate(self, request: GenerationRequest) -> Trajectory:
        """Write one trajectory under the guard. Its `round` counts interventions, its new tokens the discarded too."""
        if request.prefix_tokens:
            raise SetupError("a guarded generator writes fresh samples; forks go to the generator without the guard")
        template = self._guarded_template
        assignment = Assignment(
            prompt=request.prompt,
            prompt_tokens=template.prompt_tokens(request.prompt.text, system=self._system),
            sampling=request.sampling,
            seed=self._unguarded_seed(request),
        )
        done = await _finished(self._guard.write(assignment, model=self._model, template=template))
        trajectory = self._from_tokens(request, template, _completion(done))
        return replace(trajectory, round=done.tally.num_interventions, intervention=done.intervention)

    def _unguarded_seed(self, request: GenerationRequest) -> int:
        """The seed of the same sample without a guard: the two are one response until the first cue, so that what they
        differ in is the guard's doing."""
        *_, twin = plan_samples(
            request.prompt, model=super().identity, sampling=request.sampling, num_samples=request.sample + 1
        )
        return twin.seed


def needed_template(model: TextModel, template: ChatTemplate | None) -> ChatTemplate:
    """`template`, or a `SetupError` where engine or template cannot keep token ids."""
    if template is None or not model.capabilities.token_ids:
        raise SetupError(
            "a guard cuts a response at exact token ids, which this engine does not give: serve the model with "
            "`transformers:FOLDER` or `vllm:FOLDER`, or reach a vLLM server by `openai:MODEL@URL` with the option "
            "`completions: true` and name the model's tokenizer folder"
        )
    return template


async def _finished(pieces: AsyncGenerator[Piece | Guarded, None]) -> Guarded:
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Guarded):
                return piece
    raise AssertionError("a guard's last word is the whole response")


def _completion(done: Guarded) -> Completion:
    tally = done.tally
    return Completion(
        text=Text(""),
        finish=done.finish,
        token_ids=done.token_ids,
        num_prompt_tokens=tally.num_prompt_tokens,
        num_cached_tokens=tally.num_cached_tokens,
        num_new_tokens=tally.num_new_tokens,
        seconds=tally.seconds + tally.look_seconds,
        money=tally.money,
    )
