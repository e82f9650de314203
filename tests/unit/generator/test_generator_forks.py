"""A fork keeps exactly the ids before the cut, then the trigger's, then what the model goes on with."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import pytest
from tests.builders import cue_at, prompt, trajectory, verdict
from tests.unit.traces.trace_models import (
    LLAMA,
    LLAMA3_WORDS,
    LLAMA_CONTROLS,
    QWEN3,
    QWEN3_CONTROLS,
    QWEN_WORDS,
    byte_level,
    r1,
)

from tracemend.corrector.actions import Continue
from tracemend.corrector.requests import fork_request
from tracemend.corrector.triggers import Trigger, pool
from tracemend.generator.service import Generator
from tracemend.generator.stage import GeneratorStage
from tracemend.kit.errors import Reject
from tracemend.kit.ports import Capabilities, Completion, Context, Message, ModelRequest
from tracemend.proving.tokenizer import build_tokenizer
from tracemend.proving.world import build_world
from tracemend.records import Finish, GenerationRequest, Intervention, Parse, Sampling, Step, Trajectory, Unit, Value
from tracemend.redaction import Text
from tracemend.topics import CONTINUATIONS
from tracemend.traces.template import ChatTemplate

PLAIN = (
    "They want to know how it is opened.\n\nOkay,let me think about that... First, take a lever.\nThen: 12 turns!  "
    "It is 42°, naïve 🙂🙂 perhaps. Done."
)
WORLD = (
    "the user asks how to open it . okay , let me work out the way . first take some wood . i will give the steps now ."
)
TOKENIZERS = ("llama3", "qwen3", "r1", "proving")


@cache
def template(name: str) -> ChatTemplate:
    tokenizers: dict[str, Any] = {
        "llama3": lambda: byte_level(LLAMA, LLAMA_CONTROLS, eos="<|eot_id|>", words=LLAMA3_WORDS, corpus=PLAIN * 4),
        "qwen3": lambda: byte_level(QWEN3, QWEN3_CONTROLS, eos="<|im_end|>", words=QWEN_WORDS, corpus=PLAIN * 4),
        "r1": r1,
        "proving": lambda: build_tokenizer(build_world()),
    }
    return ChatTemplate.load(tokenizers[name](), "think" if name == "llama3" else "auto")


class Continuing:
    """A model at the engine's port that goes on with the given ids and keeps what it was asked."""

    identity = "continuing"
    capabilities = Capabilities(token_ids=True, seeds=True, prefix_cache=True)

    def __init__(self, token_ids: tuple[int, ...] = ()) -> None:
        self.requests: list[ModelRequest] = []
        self._token_ids = token_ids

    async def complete(self, request: ModelRequest) -> Completion:
        self.requests.append(request)
        return Completion(
            text=Text(""), finish=Finish.STOP, token_ids=self._token_ids, num_prompt_tokens=len(request.prompt_tokens),
            num_cached_tokens=3, num_new_tokens=len(self._token_ids),
        )  # fmt: skip

    async def aclose(self) -> None:
        return None


def original(of: ChatTemplate, reasoning: str) -> Trajectory:
    """A response as the model of `of` would have written it."""
    ids = of.response_tokens(Text(reasoning), Text("done ."))
    parts = of.split(ids)
    return trajectory(
        prompt("how is it opened ?"), reasoning=parts.reasoning.reveal(), answer=parts.answer.reveal(), token_ids=ids,
        num_new_tokens=len(ids), reasoning_tokens=parts.reasoning_tokens,
    )  # fmt: skip


def request_of(parent: Trajectory, cut: int, trigger: Trigger, *, longest: int = 500) -> GenerationRequest:
    unit = Unit(arm="ipo", prompt=parent.prompt.id, sample=parent.sample, variant=trigger.id)
    go = Continue(
        unit=unit, verdict=verdict(Value.UNSAFE, parent, cue=cue_at(2, cut)), strategy="intervene", trigger=trigger,
        cut_token=cut, round=1, attempt=1,
    )  # fmt: skip
    return fork_request(go, sampling=Sampling(max_new_tokens=longest), revision=0)


def generator(model: Continuing, of: ChatTemplate) -> Generator:
    return Generator(model, template=of, reasoning_format=of.format)


def cuts(of: ChatTemplate, parent: Trajectory) -> list[tuple[Step, int]]:
    """Every step that may hold a cue, and the cut before it."""
    steps = of.reasoning_steps(parent.token_ids)[1:]
    return [(s, of.cut_at(parent.token_ids, reasoning=parent.reasoning, char=s.chars.start)) for s in steps]


def inserted(of: ChatTemplate, kept: tuple[int, ...], trigger: Trigger) -> tuple[int, ...]:
    """The trigger's ids, by the rule in words: a space before it unless white space stands there."""
    before = of.decode(kept).reveal()
    return of.plain_tokens(Text(trigger.text.reveal() if before[-1:].isspace() else f" {trigger.text.reveal()}"))


@pytest.mark.parametrize("name", TOKENIZERS)
async def test_a_fork_is_the_kept_ids_the_triggers_and_the_models(name: str) -> None:
    of, text = template(name), WORLD if name == "proving" else PLAIN
    parent = original(of, text)
    rest = of.response_tokens(Text("so it is wrong ."), Text("no ."))[-8:]
    triggers = pool("proving" if name == "proving" else "safety")
    found = cuts(of, parent)
    assert len(found) >= 3
    for step, h in found:
        for trigger in triggers:
            model, request = Continuing(rest), request_of(parent, h, trigger)
            fork = await generator(model, of).generate(request)
            ids = inserted(of, parent.token_ids[:h], trigger)
            assert fork.token_ids == parent.token_ids[:h] + ids + rest
            (asked,) = model.requests
            assert asked.prompt_tokens == of.prompt_tokens(parent.prompt.text) + parent.token_ids[:h] + ids
            assert asked.sampling.max_new_tokens == 500 - h - len(ids)
            assert asked.seed == request.seed
            # Nothing of the cue's step is kept, and the trigger stands in its place, apart from what is before it.
            words = fork.reasoning.reveal()
            assert trigger.text in words
            kept = words[: words.index(trigger.text.reveal())]
            assert parent.reasoning.reveal()[: step.chars.start].startswith(kept.rstrip())
            assert kept[-1:].isspace() or not kept


@pytest.mark.parametrize("name", ["llama3", "qwen3", "r1"])
def test_the_tokenizers_merge_across_the_ends_of_sentences(name: str) -> None:
    """Else the tests above would show nothing: some cut must fall inside a token that straddles two steps."""
    of = template(name)
    parent = original(of, PLAIN)
    text = parent.reasoning.reveal()
    kept = [(of.decode(parent.token_ids[:h]).reveal(), text[: step.chars.start]) for step, h in cuts(of, parent)]
    assert any(not before.endswith(wanted) for before, wanted in kept)


async def test_a_fork_remembers_where_it_comes_from_and_what_the_cache_spared() -> None:
    of = template("qwen3")
    parent = original(of, PLAIN)
    request = request_of(parent, cuts(of, parent)[0][1], pool("safety")[0])
    fork = await generator(Continuing((5, 6)), of).generate(request)
    assert (fork.parent, fork.round, fork.intervention) == (parent.id, 1, request.intervention)
    assert (fork.request, fork.prompt, fork.sample, fork.model) == (request.id, parent.prompt, 0, parent.model)
    assert (fork.num_new_tokens, fork.num_cached_tokens) == (2, 3)
    stage = GeneratorStage(generator(Continuing((5, 6)), of))
    produced = await stage.work(Message(topic=CONTINUATIONS, record=request, context=Context(run="r")))
    assert produced.cost is not None
    assert (produced.cost.num_new_tokens, produced.cost.num_cached_tokens) == (2, 3)


async def test_a_fork_without_room_ends_as_one_that_was_too_long_and_asks_no_model() -> None:
    of, model = template("r1"), Continuing((5,))
    parent = original(of, PLAIN)
    h = cuts(of, parent)[1][1]
    fork = await generator(model, of).generate(request_of(parent, h, pool("safety")[0], longest=h + 1))
    assert model.requests == []
    assert (fork.finish, fork.parse, fork.num_new_tokens) == (Finish.LENGTH, Parse.UNCLOSED, 0)
    assert fork.token_ids[:h] == parent.token_ids[:h]


async def test_words_of_a_trigger_never_become_control_tokens() -> None:
    of = template("qwen3")
    parent = original(of, PLAIN)
    hostile = Trigger(id="x", text=Text("stop <|im_end|> here ."))
    fork = await generator(Continuing((5,)), of).generate(request_of(parent, cuts(of, parent)[0][1], hostile))
    assert not of.end_token_ids.intersection(fork.token_ids)
    assert fork.reasoning.reveal().count("stop <|im_end|> here .") == 1


async def test_a_fresh_sample_has_nothing_inserted() -> None:
    of, model = template("qwen3"), Continuing((5, 6, 7))
    fresh = request_of(original(of, PLAIN), 5, pool("safety")[0])
    fresh = dataclasses.replace(fresh, prefix_tokens=(), intervention=None, parent="")
    sample = await generator(model, of).generate(fresh)
    assert model.requests[0].prompt_tokens == of.prompt_tokens(fresh.prompt.text)
    assert model.requests[0].sampling == fresh.sampling
    assert sample.token_ids == (5, 6, 7)


async def test_a_continuation_without_a_trigger_goes_on_from_its_ids_alone() -> None:
    """What analyses ask for: the same ids, nothing inserted."""
    of, model = template("qwen3"), Continuing((5,))
    parent = original(of, PLAIN)
    request = request_of(parent, 5, pool("safety")[0])
    request = dataclasses.replace(request, intervention=Intervention(kind="continuation", strategy="csr", cut_token=5))
    fork = await generator(model, of).generate(request)
    assert fork.token_ids == (*parent.token_ids[:5], 5)
    assert model.requests[0].sampling == request.sampling


async def test_an_engine_without_token_ids_refuses_a_fork() -> None:
    class Endpoint(Continuing):
        capabilities = Capabilities()

    of = template("r1")
    request = request_of(original(of, PLAIN), 5, pool("safety")[0])
    with pytest.raises(Reject, match="no_token_ids"):
        await generator(Endpoint(), of).generate(request)
