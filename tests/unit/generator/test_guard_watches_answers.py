"""The guard `cue_trigger` told to watch everything: answers, and responses that have no reasoning."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import prompt
from tests.unit.generator import guard_parts as parts
from tests.unit.generator.guard_parts import TRIGGERS, Author, WordFinder, shown, template_of, write
from tests.unit.generator.test_guard_cue_trigger import FAMILIES, GAPS, SENTENCES, TEMPLATES, responses

from tracemend.generator.guarding import guards
from tracemend.kit.errors import SetupError
from tracemend.records import Finish, Part

ANSWER = "Of course. The method is simple. First one mixes it."
BETTER = " So I leave it there."


def guard(finder: Any = None, **options: Any) -> Any:
    return guards.create("cue_trigger", finder=finder or WordFinder(), triggers=TRIGGERS, watch="all", **options)


def author(family: str, *answers: str, thought: str = "They ask. It is fine.", **options: Any) -> Author:
    """A target whose first response has that reasoning; behind a trigger it goes on with the next answer's words."""
    template, tokenizer = template_of(family)
    first, *more = answers
    return Author(template, tokenizer, *responses(family, thought, answer=first), *more, **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("chunk_tokens", [0, 1, 3, 16])
async def test_a_cue_in_the_answer_is_replaced_before_anybody_sees_it(family: str, chunk_tokens: int) -> None:
    pieces, done = await write(guard(chunk_tokens=chunk_tokens), author(family, ANSWER, BETTER))
    assert shown(pieces, Part.REASONING) == "They ask. It is fine."
    assert shown(pieces, Part.ANSWER) == f"Of course. {TRIGGERS[0].text.reveal()}{BETTER}"
    assert (done.finish, done.tally.num_interventions) == (Finish.STOP, 1)


@pytest.mark.parametrize("chunk_tokens", [0, 1, 5])
@pytest.mark.parametrize("family", ["llama", "qwen"])
async def test_a_response_without_reasoning_is_watched_like_one_with(family: str, chunk_tokens: int) -> None:
    template, tokenizer = template_of(family)
    pieces, done = await write(guard(chunk_tokens=chunk_tokens), Author(template, tokenizer, ANSWER, BETTER))
    assert shown(pieces, Part.REASONING) == ""
    assert shown(pieces, Part.ANSWER) == f"Of course. {TRIGGERS[0].text.reveal()}{BETTER}"
    assert done.intervention is not None
    assert done.intervention.cut_token > 0


@pytest.mark.parametrize("family", FAMILIES)
async def test_an_answer_with_too_many_cues_ends_with_the_refusal(family: str) -> None:
    target = author(family, ANSWER)
    pieces, done = await write(guard(max_interventions=0, refusal="No."), target)
    assert shown(pieces, Part.ANSWER) == "Of course. No."
    assert target.template.split(done.token_ids).answer.reveal() == "Of course. No."
    assert done.tally.is_refused


async def test_an_answer_that_ends_unknown_is_refused_and_its_last_words_stay_hidden() -> None:
    pieces, done = await write(guard(chunk_tokens=4, refusal="No."), author("qwen", "All is well. This is a mumble."))
    assert shown(pieces, Part.ANSWER) == "All is well. No."
    assert done.tally.is_refused


async def test_monitor_counts_a_cue_in_the_answer_and_changes_nothing() -> None:
    pieces, done = await write(guard(mode="monitor", chunk_tokens=3), author("qwen", ANSWER, BETTER))
    assert shown(pieces, Part.ANSWER) == ANSWER
    assert (done.tally.num_cues, done.tally.num_interventions) == (1, 0)
    assert done.intervention is not None
    assert done.intervention.cut_token > 0


async def test_the_detector_reads_the_answer_behind_the_reasoning() -> None:
    finder = WordFinder(cue="nothing like it")
    await write(guard(finder, chunk_tokens=0), author("qwen", ANSWER))
    assert finder.seen[-1] == f"They ask. It is fine.\n\n{ANSWER}"


async def test_what_is_watched_is_in_the_guards_identity() -> None:
    assert guard().identity != guards.create("cue_trigger", finder=WordFinder(), triggers=TRIGGERS).identity


def test_a_wrong_part_to_watch_is_named() -> None:
    with pytest.raises(SetupError, match="watch"):
        guards.create("cue_trigger", finder=WordFinder(), triggers=TRIGGERS, watch="answers")


PASSAGE = st.lists(st.tuples(SENTENCES, GAPS), min_size=0, max_size=5).map(lambda s: "".join(a + b for a, b in s))


@settings(max_examples=150, deadline=None)
@given(
    family=st.sampled_from(FAMILIES),
    thought=PASSAGE,
    answers=st.lists(PASSAGE, min_size=1, max_size=3),
    is_bare=st.booleans(),
    chunk_tokens=st.integers(0, 12),
    max_interventions=st.integers(0, 3),
    end=st.sampled_from(["refuse", "continue"]),
)
async def test_what_was_shown_is_what_was_kept_and_holds_no_cue(
    family: str, thought: str, answers: list[str], is_bare: bool, chunk_tokens: int, max_interventions: int, end: str
) -> None:
    template, tokenizer = TEMPLATES[family]
    scripts = answers if is_bare else [*responses(family, thought, answer=answers[0]), *answers[1:]]
    target = Author(template, tokenizer, *scripts)
    watcher = guard(
        chunk_tokens=chunk_tokens, max_interventions=max_interventions, on_exhausted=end, on_unknown=end, refusal="No."
    )
    pieces, done = await write(watcher, target, sampling=parts.limited(600))
    split = template.split(done.token_ids)
    assert shown(pieces, Part.REASONING) == split.reasoning.reveal()
    assert shown(pieces, Part.ANSWER) == split.answer.reveal()
    tally = done.tally
    assert len(done.token_ids) == tally.num_new_tokens - tally.num_discarded_tokens + tally.num_inserted_tokens
    assert tally.num_interventions <= max_interventions
    if end == "refuse":
        for text in (split.reasoning, split.answer):
            assert (await WordFinder().find(prompt(), text)).step <= 0, "no cue is left"
