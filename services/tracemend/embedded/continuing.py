"""Drawing continuations: from places of traces, k samples each by the model that wrote them, judged.

The flow is the one that samples benchmarks; what goes through it is a place (a prompt and the response ids that are
kept) instead of a prompt. Continuations of one place are asked for together, so that an engine reads the prefix they
share once. They are ordinary work: started again, finished ones answer from the ledger, and places that two traces
share are drawn once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tracemend.embedded.flows import Flow
from tracemend.evaluator.continuation.curves import Counts
from tracemend.kit.ids import make_id, seed_of
from tracemend.kit.ports import Context, Message
from tracemend.kit.stage import Stage
from tracemend.records import GenerationRequest, Intervention, Part, Prompt, Sampling, Trajectory, Value, Verdict
from tracemend.topics import CONTINUATIONS, VERDICTS

CONTINUATION = "continuation"
"""Kind of the intervention that continuations carry: they are no samples of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where continuations are drawn from."""

    id: str
    prompt: Prompt
    kept: tuple[int, ...]
    """Response ids that every continuation begins with."""

    @classmethod
    def of(cls, prompt: Prompt, kept: tuple[int, ...]) -> Place:
        return cls(id=make_id("place", prompt.id, kept), prompt=prompt, kept=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuer:
    """Who continues, and how often from each place."""

    model: str
    """Identity of the generator."""
    sampling: Sampling
    """Of a whole response: what is kept counts towards its length."""
    num_continuations: int

    def requests(self, place: Place) -> tuple[GenerationRequest, ...]:
        """The requests of one place: the same for the same prompt, ids, model and sampling, in any run."""
        return tuple(self._request(place, index) for index in range(self.num_continuations))

    def messages(self, place: Place, *, run: str, plan: str, joins: bool) -> list[Message]:
        assert not joins, "continuations are no samples of a prompt"
        context = Context(run=run, plan=plan)
        return [Message(topic=CONTINUATIONS, record=r, context=context) for r in self.requests(place)]

    def _request(self, place: Place, index: int) -> GenerationRequest:
        num_left = max(1, self.sampling.max_new_tokens - len(place.kept))
        sampling = replace(self.sampling, max_new_tokens=num_left)
        request_id = make_id(CONTINUATION, place.id, self.model, sampling, index)
        return GenerationRequest(
            id=request_id,
            prompt=place.prompt,
            model=self.model,
            sampling=sampling,
            sample=index,
            seed=seed_of(request_id),
            prefix_tokens=place.kept,
            intervention=Intervention(kind=CONTINUATION, strategy="csr", cut_token=len(place.kept)),
        )


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the continuations of one place came to."""

    values: dict[str, tuple[Value, Value]] = field(default_factory=dict)
    """Request to the verdicts on reasoning and answer."""
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_new_tokens: int = 0

    def add(self, verdict: Verdict) -> None:
        """Count a verdict; the same one twice counts once."""
        trajectory = verdict.trajectory
        if trajectory.request in self.values:
            return
        self.values[trajectory.request] = (verdict.reasoning.value, verdict.answer.value)
        self.num_prompt_tokens += trajectory.num_prompt_tokens
        self.num_cached_tokens += trajectory.num_cached_tokens
        self.num_new_tokens += trajectory.num_new_tokens

    def counts(self, part: Part) -> Counts:
        """The verdicts on reasoning or answer."""
        index = (Part.REASONING, Part.ANSWER).index(part)
        return Counts.of(pair[index] for pair in self.values.values())


def is_continuation(trajectory: Trajectory) -> bool:
    """Whether it was drawn to measure another trace: such a one is no sample, fork or rewrite of a run."""
    return trajectory.intervention is not None and trajectory.intervention.kind == CONTINUATION


async def continue_from(
    flow: Flow, places: Sequence[Place], *, continuer: Continuer, stages: Sequence[Stage]
) -> Mapping[str, Tally]:
    """Draw and judge the continuations of `places`; their tallies by place id."""
    distinct = list({place.id: place for place in places}.values())
    place_of = {request.id: place.id for place in distinct for request in continuer.requests(place)}
    tallies: dict[str, Tally] = defaultdict(Tally)
    subscription = flow.bus.subscribe((VERDICTS,), group="collector")

    async def collect() -> None:
        async for delivery in subscription:
            verdict: Verdict = delivery.message.record
            place = place_of[verdict.trajectory.request]
            tallies[place].add(verdict)
            await delivery.ack()
            if len(tallies[place].values) == continuer.num_continuations:
                flow.window.leave(place)

    for stage in stages:
        flow.add(stage)
    await flow.drive(_each(distinct), continuer, joins=False, others=[collect()])
    return tallies


async def _each(places: Sequence[Place]) -> AsyncIterator[Place]:
    for place in places:
        yield place
