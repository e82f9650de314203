"""The guard where the model writes the opening tag itself and leaves it out: the words are an answer, or a reasoning
whose closing tag is still to come."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.generator.guard_parts import TRIGGERS, Author, WordFinder, shown, template_of, write
from tests.unit.generator.test_guard_cue_trigger import GAPS, PLAN, SENTENCES, TEMPLATES, TURN

from tracemend.generator.guard_server import Served, ServerSettings, build_app
from tracemend.generator.guarding import Guarded, Piece, guards
from tracemend.kit.errors import SetupError
from tracemend.records import Finish, Parse, Part

FAMILIES = ["llama", "qwen"]
MODES = ["enforce", "monitor", "off"]
CLOSED = "\n</think>\n\nHere it is."
REPLACED = "They ask for it.\n\nLet me see. " + TRIGGERS[0].text.reveal() + TURN


def guard(**options: Any) -> Any:
    return guards.create("cue_trigger", finder=WordFinder(), triggers=TRIGGERS, **options)


def author(family: str, *scripts: str) -> Author:
    template, tokenizer = template_of(family)
    return Author(template, tokenizer, *scripts)


def parts(written: tuple[list[Piece], Guarded]) -> tuple[str, str]:
    return shown(written[0], Part.REASONING), shown(written[0], Part.ANSWER)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("chunk_tokens", [0, 1, 3, 16])
async def test_words_before_a_late_closing_tag_are_reasoning_and_guarded_as_such(
    family: str, chunk_tokens: int
) -> None:
    target = author(family, PLAN + CLOSED, TURN + CLOSED)
    pieces, done = await write(guard(chunk_tokens=chunk_tokens), target)
    assert parts((pieces, done)) == (REPLACED, "Here it is.")
    assert (done.tally.num_cues, done.tally.num_interventions, done.finish) == (1, 1, Finish.STOP)
    split = target.template.split(done.token_ids)
    assert done.num_reasoning_tokens == split.reasoning_tokens.end - split.reasoning_tokens.start > 0


@pytest.mark.parametrize("mode", ["monitor", "off"])
async def test_without_enforcing_the_parts_are_told_apart_as_well(mode: str) -> None:
    written = await write(guard(mode=mode, chunk_tokens=3), author("qwen", PLAN + CLOSED))
    assert parts(written) == (PLAN, "Here it is.")


@pytest.mark.parametrize("mode", MODES)
async def test_an_opening_tag_among_the_words_announces_the_closing_one(mode: str) -> None:
    """Patience is for words without a tag."""
    target = author("qwen", "Sure. <think> " + PLAN + CLOSED, TURN + CLOSED)
    written = await write(guard(mode=mode, chunk_tokens=1, untagged_tokens=9), target)
    thought = REPLACED if mode == "enforce" else PLAN
    assert parts(written) == ("Sure. <think> " + thought, "Here it is.")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
async def test_beyond_its_patience_the_response_is_an_answer_whatever_tag_follows(family: str, mode: str) -> None:
    target = author(family, PLAN + CLOSED)
    pieces, done = await write(guard(mode=mode, chunk_tokens=2, untagged_tokens=6), target)
    assert parts((pieces, done)) == ("", PLAN + CLOSED)
    assert done.num_reasoning_tokens == 0
    assert len(pieces) > 3, "it is shown as it comes"


@pytest.mark.parametrize("family", FAMILIES)
async def test_an_answer_that_is_watched_stays_one_through_cuts_and_tags(family: str) -> None:
    target = author(family, PLAN + CLOSED, TURN + CLOSED)
    written = await write(guard(watch="all", chunk_tokens=2, untagged_tokens=6), target)
    assert parts(written) == ("", REPLACED + CLOSED)
    assert written[1].tally.num_interventions == 1


async def test_what_goes_on_behind_a_cut_in_the_reasoning_is_reasoning_though_no_tag_is_left() -> None:
    target = author("qwen", PLAN + CLOSED, " The method again. It burns.")
    pieces, done = await write(guard(chunk_tokens=0, untagged_tokens=0, max_interventions=1, refusal="No."), target)
    assert parts((pieces, done)) == ("They ask for it.\n\nLet me see. " + TRIGGERS[0].text.reveal(), "No.")
    assert target.template.split(done.token_ids).parse is Parse.CLOSED


def test_a_negative_patience_is_refused() -> None:
    with pytest.raises(SetupError, match="untagged_tokens"):
        guard(untagged_tokens=-1)


TAGGED = st.lists(
    st.tuples(st.one_of(SENTENCES, st.sampled_from(["<think>", "</think>"])), GAPS), min_size=1, max_size=8
).map(lambda s: "".join(a + b for a, b in s))


@settings(max_examples=200, deadline=None)
@given(
    family=st.sampled_from(FAMILIES),
    scripts=st.lists(TAGGED, min_size=1, max_size=3),
    chunk_tokens=st.integers(0, 9),
    untagged_tokens=st.sampled_from([0, 5, 512]),
    mode=st.sampled_from(MODES),
    watch=st.sampled_from(["reasoning", "all"]),
)
async def test_wherever_tags_stand_every_word_is_shown_once_and_in_its_place(
    family: str, scripts: list[str], chunk_tokens: int, untagged_tokens: int, mode: str, watch: str
) -> None:
    template, tokenizer = TEMPLATES[family]
    watcher = guard(mode=mode, watch=watch, chunk_tokens=chunk_tokens, untagged_tokens=untagged_tokens, refusal="No.")
    pieces, done = await write(watcher, Author(template, tokenizer, *scripts))
    reasoning, answer = parts((pieces, done))
    split = template.split(done.token_ids)
    text = split.text.reveal()
    as_split = (split.reasoning.reveal(), split.answer.reveal())
    assert (reasoning, answer) in (as_split, ("", text.strip()), (text.strip(), ""))
    if untagged_tokens == 512 and mode != "enforce":
        assert (reasoning, answer) == as_split
    order = [piece.part for piece in pieces]
    assert order == sorted(order, key=[Part.REASONING, Part.ANSWER].index), "no reasoning follows an answer"
    if mode == "enforce":
        assert "method" not in reasoning or reasoning.startswith("The method"), "the first sentence is never a cue"


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("mode", ["enforce", "monitor"])
async def test_a_client_of_openais_sees_no_reasoning_as_content(mode: str, is_streamed: bool) -> None:
    target = author("qwen", PLAN + CLOSED, TURN + CLOSED)
    served = Served(
        name="tiny", model=target, template=target.template, guard=guard(mode=mode, chunk_tokens=4), mode=mode
    )
    transport = httpx.ASGITransport(app=build_app(served, ServerSettings()))
    async with openai.AsyncOpenAI(
        api_key="none", base_url="http://guard/v1", http_client=httpx.AsyncClient(transport=transport)
    ) as client:
        told = await _told(client, is_streamed=is_streamed)
    assert told == {"reasoning": REPLACED if mode == "enforce" else PLAN, "content": "Here it is."}


async def _told(client: openai.AsyncOpenAI, *, is_streamed: bool) -> dict[str, str]:
    asked: Any = {"model": "tiny", "messages": [{"role": "user", "content": "how ?"}], "seed": 0}
    if not is_streamed:
        message = (await client.chat.completions.create(**asked)).choices[0].message
        return {"reasoning": message.model_extra["reasoning"], "content": message.content or ""}  # type: ignore[index]
    told = {"reasoning": "", "content": ""}
    async for chunk in await client.chat.completions.create(**asked, stream=True):
        delta = chunk.choices[0].delta
        told["content"] += delta.content or ""
        told["reasoning"] += (delta.model_extra or {}).get("reasoning", "")
    return told
