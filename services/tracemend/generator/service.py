"""The generator's work: requests for a prompt's samples, and the trajectory that a request becomes.

Where the engine takes token ids, the prompt is rendered by our own template and the response keeps its ids, so that a
fork's prefix is identical by construction: kept ids, then the trigger's, then what the model goes on with. Endpoints
that take chat messages only get messages, and their text is split by the named reasoning format.
"""

from __future__ import annotations

import dataclasses

from tracemend.kit.errors import Reject
from tracemend.kit.ids import make_id, seed_of, trajectory_id
from tracemend.kit.ports import Capabilities, Completion, ModelRequest, TextModel
from tracemend.records import Finish, GenerationRequest, Parse, Prompt, Sampling, Span, Trajectory
from tracemend.redaction import Text
from tracemend.traces.formats import ReasoningFormat
from tracemend.traces.split import split_text
from tracemend.traces.template import ChatTemplate


def plan_samples(prompt: Prompt, *, model: str, sampling: Sampling, num_samples: int) -> tuple[GenerationRequest, ...]:
    """The requests for a prompt's K samples: the same for the same prompt, model and sampling, in any run."""
    requests: list[GenerationRequest] = []
    for sample in range(num_samples):
        request_id = make_id("request", prompt.id, model, sampling, sample)
        requests.append(
            GenerationRequest(
                id=request_id, prompt=prompt, model=model, sampling=sampling, sample=sample, seed=seed_of(request_id)
            )
        )
    return tuple(requests)


def sampler_identity(model: str, rendering: str, *, system: str, revision: int) -> str:
    """What a generator calls itself: `model` is its engine's identity, `rendering` its template's or format's."""
    return make_id("model", model, rendering, system, revision)


class Generator:
    """Turns requests into trajectories with one engine.

    `template` is needed where the engine takes token ids; `reasoning_format` splits the text of one that does not.
    """

    def __init__(
        self,
        model: TextModel,
        *,
        template: ChatTemplate | None,
        reasoning_format: ReasoningFormat,
        system: str = "",
        revision: int = 0,
    ) -> None:
        self._model = model
        self._template = template if model.capabilities.token_ids else None
        self._format = reasoning_format
        self._system = system
        self._revision = revision

    @property
    def identity(self) -> str:
        """What determines the text of a request with a seed: the model, how prompts are rendered, the system prompt,
        and how often it was asked to sample anew."""
        rendering = self._template.identity if self._template else self._format.name
        return sampler_identity(self._model.identity, rendering, system=self._system, revision=self._revision)

    @property
    def capabilities(self) -> Capabilities:
        """What its engine can do."""
        return self._model.capabilities

    @property
    def reasoning_format(self) -> str:
        """Name of the format that marks the reasoning."""
        return self._template.format.name if self._template else self._format.name

    async def generate(self, request: GenerationRequest) -> Trajectory:
        """Sample one trajectory; raises what the engine raises, and `Reject` for a fork that it cannot go on with."""
        if self._template is None:
            if request.prefix_tokens or request.intervention is not None:
                raise Reject("no_token_ids", "the engine takes no token ids, so no response can be gone on with")
            return self._from_text(request, await self._model.complete(self._chat(request)))
        given = request.prefix_tokens + _trigger_tokens(self._template, request)
        completion = await self._go_on(self._template, request, given)
        return self._from_tokens(request, self._template, completion, given=given)

    async def _go_on(self, template: ChatTemplate, request: GenerationRequest, given: tuple[int, ...]) -> Completion:
        """What the model writes after the ids that it is `given` of its response; the trigger's count towards the room
        that the request leaves, as if the model had written them."""
        num_inserted = len(given) - len(request.prefix_tokens)
        room = request.sampling.max_new_tokens - num_inserted
        if num_inserted and room < 1:
            return Completion(text=Text(""), finish=Finish.LENGTH)
        prompt_tokens = template.prompt_tokens(request.prompt.text, system=self._system)
        sampling = dataclasses.replace(request.sampling, max_new_tokens=room)
        return await self._model.complete(
            ModelRequest(prompt_tokens=prompt_tokens + given, sampling=sampling, seed=request.seed)
        )

    def _chat(self, request: GenerationRequest) -> ModelRequest:
        system = ({"role": "system", "content": self._system},) if self._system else ()
        messages = (*system, {"role": "user", "content": request.prompt.text.reveal()})
        return ModelRequest(messages=messages, sampling=request.sampling, seed=request.seed)

    def _from_tokens(
        self,
        request: GenerationRequest,
        template: ChatTemplate,
        completion: Completion,
        *,
        given: tuple[int, ...] = (),
    ) -> Trajectory:
        token_ids = given + completion.token_ids
        parts = template.split(token_ids)
        return _trajectory(
            request,
            completion,
            reasoning=parts.reasoning,
            answer=parts.answer,
            parse=parts.parse,
            token_ids=token_ids,
            spans=(parts.reasoning_tokens, parts.answer_tokens),
        )

    def _from_text(self, request: GenerationRequest, completion: Completion) -> Trajectory:
        if completion.reasoning is not None:
            parse = Parse.CLOSED if completion.text or completion.finish is Finish.STOP else Parse.UNCLOSED
            return _trajectory(request, completion, reasoning=completion.reasoning, answer=completion.text, parse=parse)
        text = completion.text.reveal()
        parts = split_text(text, self._format)
        return _trajectory(
            request,
            completion,
            reasoning=Text(text[parts.reasoning.start : parts.reasoning.end]),
            answer=Text(text[parts.answer.start : parts.answer.end]),
            parse=parts.parse,
        )


def _trigger_tokens(template: ChatTemplate, request: GenerationRequest) -> tuple[int, ...]:
    """The ids of the sentence that a fork begins with, parted by a space from what stands before it; none for others.

    What the kept ids decode to may end within a character or a word: the cut is before the cue, wherever tokens end.
    """
    trigger = request.intervention.payload if request.intervention is not None else Text("")
    if not trigger:
        return ()
    before = template.decode(request.prefix_tokens).reveal()
    separator = "" if not before or before[-1].isspace() else " "
    return template.plain_tokens(Text(separator + trigger.reveal()))


def dead_trajectory(request: GenerationRequest) -> Trajectory:
    """What stands for a sample that was given up, so that its group can still be counted."""
    nothing = Completion(text=Text(""), finish=Finish.DEAD)
    return _trajectory(request, nothing, reasoning=Text(""), answer=Text(""), parse=Parse.UNCLOSED)


def _trajectory(
    request: GenerationRequest,
    completion: Completion,
    *,
    reasoning: Text,
    answer: Text,
    parse: Parse,
    token_ids: tuple[int, ...] = (),
    spans: tuple[Span, Span] = (Span(start=0, end=0), Span(start=0, end=0)),
) -> Trajectory:
    return Trajectory(
        id=trajectory_id(request.id),
        request=request.id,
        prompt=request.prompt,
        sample=request.sample,
        model=request.model,
        reasoning=reasoning,
        answer=answer,
        parse=parse,
        finish=completion.finish,
        token_ids=token_ids,
        reasoning_tokens=spans[0],
        answer_tokens=spans[1],
        parent=request.parent,
        round=request.round,
        intervention=request.intervention,
        num_prompt_tokens=completion.num_prompt_tokens,
        num_cached_tokens=completion.num_cached_tokens,
        num_new_tokens=completion.num_new_tokens,
        seconds=completion.seconds,
        money=completion.money,
    )
