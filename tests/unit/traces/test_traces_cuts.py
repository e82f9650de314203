"""Cuts at a char: exact on byte-level tokenizers, whose tokens reach across sentence ends and split characters, and on
SentencePiece's, whose decoder looks at neighbours."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.traces import trace_models

from tracemend.records import Span
from tracemend.redaction import Text
from tracemend.traces.segmentation import segment
from tracemend.traces.spans import cut_at
from tracemend.traces.template import ChatTemplate

# Much of what ends one sentence and begins the next, so that the merges reach across.
CORPUS = (
    "So it is.\n\nOkay, let me see. Wait.\nNow I will list the steps. First, wait!\n\n\nThen go on... No. "
    "好的。我们先看。好的。我们先看。\n\n"
    "“Stop.” He said so. 1. Take it. 2. Go. 🙂 Yes. 🙂🙂 No.\n- One.\n- Two.\n"
) * 12
WORDS = {"llama3": trace_models.LLAMA3_WORDS, "qwen": trace_models.QWEN_WORDS, "gpt2": ""}
SENTENCEPIECE = "sentencepiece"
PIECES = [
    "So it is.", " Okay, let me see.", "\n\n", "\n", ".\n\n", " ", "  ", "Wait.", " Now I will list the steps.",
    "好的。", "我们先看。", "🙂 ", "🙂🙂.", " é", "“Stop.” ", "1. Take it.",
    "...", "!?", "\t", "x", ".", "。", "\u200d", "e\u0301. ", "…\n",
]  # fmt: skip
writing = st.lists(st.sampled_from(PIECES), min_size=1, max_size=20).map("".join)


@functools.cache
def template(name: str) -> ChatTemplate:
    if name == SENTENCEPIECE:
        return ChatTemplate.load(
            trace_models.byte_fallback(trace_models.QWEN3, trace_models.QWEN3_CONTROLS, eos="<|im_end|>", corpus=CORPUS)
        )
    tokenizer = trace_models.byte_level(
        trace_models.QWEN3, trace_models.QWEN3_CONTROLS, eos="<|im_end|>", words=WORDS[name], corpus=CORPUS
    )
    return ChatTemplate.load(tokenizer)


def response(name: str, reasoning: str) -> tuple[int, ...]:
    return template(name).response_tokens(Text(reasoning), Text("That is all."))


@pytest.mark.parametrize("name", [*WORDS, SENTENCEPIECE])
@settings(max_examples=150, deadline=None)
@given(written=writing, data=st.data())
def test_what_a_cut_keeps_is_a_prefix_without_anything_of_the_step_and_the_longest_one(
    name: str, written: str, data: st.DataObject
) -> None:
    ids = response(name, written)
    whole, reasoning = template(name).split(ids).text.reveal(), template(name).split(ids).reasoning
    steps = segment(reasoning)
    if not steps:
        return
    step = data.draw(st.sampled_from(steps))
    begins = whole.index(reasoning.reveal()) + step.start
    cut = template(name).cut_at(ids, reasoning=reasoning, char=step.start)

    kept = template(name).decode(ids[:cut]).reveal()
    assert whole.startswith(kept)
    assert len(kept) <= begins

    def is_clean(num_kept: int) -> bool:
        longer = template(name).decode(ids[:num_kept]).reveal()
        return whole.startswith(longer) and len(longer) <= begins

    assert not any(is_clean(more) for more in range(cut + 1, len(ids)))


@pytest.mark.parametrize("name", WORDS)
def test_a_cue_that_begins_inside_a_token_loses_the_token_and_no_more(name: str) -> None:
    reasoning = "So it is. Now I will list the steps."
    ids = response(name, reasoning)
    cut = template(name).cut_at(ids, reasoning=Text(reasoning), char=reasoning.index("Now"))
    kept = template(name).decode(ids[:cut]).reveal()
    assert kept.endswith("So it is.")
    next_token = template(name).decode(ids[cut : cut + 1]).reveal()
    assert next_token.startswith(" N")  # the space is of the step before, and its token reaches into the cue


@pytest.mark.parametrize("name", ["llama3", "qwen"])
def test_a_full_stop_merged_with_line_breaks_is_kept_whole(name: str) -> None:
    reasoning = "So it is.\n\nOkay, let me see."
    ids = response(name, reasoning)
    assert ".\n\n" in {template(name).decode([token]).reveal() for token in ids}
    cut = template(name).cut_at(ids, reasoning=Text(reasoning), char=reasoning.index("Okay"))
    assert template(name).decode(ids[:cut]).reveal().endswith("So it is.\n\n")


def test_half_a_character_is_not_kept() -> None:
    # Three tokens write "。好": one the first two bytes of the stop, one its last and the first of the next character.
    offsets = (Span(start=0, end=2), Span(start=2, end=3), Span(start=2, end=4), Span(start=3, end=4))
    assert cut_at(3, offsets) == 1
    assert cut_at(2, offsets) == 1
    assert cut_at(4, offsets) == 4


def test_ids_that_spell_another_reasoning_have_no_cut() -> None:
    ids = response("qwen", "So it is. Wait.")
    assert template("qwen").cut_at(ids, reasoning=Text("So it was. Wait."), char=11) == -1
