"""Chars and tokens: exact for byte-level tokens that hold half a character, and for words joined by spaces."""

import itertools
import random
import time

import pytest
import trace_models
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from tracemend.records import Span
from tracemend.traces.segmentation import segment
from tracemend.traces.spans import cut_before, steps_of, token_char_offsets, tokens_covering

BYTES = trace_models.qwen3().backend_tokenizer
WORDS = trace_models.word_level().backend_tokenizer


def decode_bytes(ids):
    return BYTES.decode(list(ids), skip_special_tokens=False)


def decode_words(ids):
    return WORDS.decode(list(ids), skip_special_tokens=False)


def encode_bytes(text):
    return BYTES.encode(text, add_special_tokens=False).ids


def offsets_by_bytes(text, ids):
    """What the offsets must be, counted in UTF-8: a byte-level token is as many bytes as its name has letters."""
    char_of_byte = [i for i, char in enumerate(text) for _ in char.encode()]
    spans, begin = [], 0
    for token in ids:
        name = BYTES.id_to_token(token)
        end = begin + (len(name.encode()) if token in BYTES.get_added_tokens_decoder() else len(name))
        spans.append(Span(start=char_of_byte[begin], end=char_of_byte[end - 1] + 1))
        begin = end
    assert begin == len(char_of_byte)
    return tuple(spans)


WRITING = st.text(st.sampled_from("ab. \n好é👩\u200d\ufffd</think>ि🇫🇷")) | st.text()


@given(WRITING)
@settings(max_examples=300)
def test_offsets_are_those_of_the_bytes(text):
    ids = encode_bytes(text)
    assert token_char_offsets(decode_bytes, ids) == offsets_by_bytes(text, ids)


@given(st.lists(WRITING, min_size=1, max_size=12), st.integers(0, 60))
@settings(max_examples=100, deadline=None)
def test_offsets_of_long_texts_with_a_few_shared_characters_are_those_of_the_bytes(odd, num_plain):
    """Where tokens add up they are counted in bulk; the characters that several share lie anywhere between."""
    text = "".join("So we go on, step by step. " * num_plain + words for words in odd)
    ids = encode_bytes(text)
    assert token_char_offsets(decode_bytes, ids) == offsets_by_bytes(text, ids)


def test_tokens_that_add_up_are_decoded_once_each():
    ids = encode_bytes("So we go on, step by step. " * 400)
    asked = []
    token_char_offsets(lambda some: asked.append(len(some)) or decode_bytes(some), ids)
    assert len(asked) == len(set(ids)) + 1


@given(st.lists(st.integers(0, BYTES.get_vocab_size() - 1), max_size=300))
def test_any_ids_get_ordered_spans_that_cover_the_text(ids):
    text = decode_bytes(ids)
    offsets = token_char_offsets(decode_bytes, ids)
    assert len(offsets) == len(ids)
    covered = 0
    for before, after in itertools.pairwise(offsets):
        assert before.start <= after.start
        assert before.end <= after.end
    for span in offsets:
        assert span.start <= covered
        covered = max(covered, span.end)
    assert covered == len(text)


@given(st.lists(st.sampled_from(sorted(WORDS.get_vocab()))))
def test_words_own_the_space_before_them(words):
    ids = [WORDS.token_to_id(word) for word in words]
    text = decode_words(ids)
    offsets = token_char_offsets(decode_words, ids)
    assert [text[s.start : s.end] for s in offsets] == [(" " if i else "") + word for i, word in enumerate(words)]


def test_offsets_take_linear_time_on_random_bytes():
    generator = random.Random(0)
    byte_ids = [BYTES.token_to_id(letter) for letter in sorted(ByteLevel.alphabet())]
    begin = time.process_time()
    token_char_offsets(decode_bytes, [generator.choice(byte_ids) for _ in range(30_000)])
    assert time.process_time() - begin < 5


def test_a_decoder_that_changes_earlier_text_still_gets_ordered_spans():
    """A decoder without locality (here: it sorts) is counted from the beginning and never runs out of the text."""
    offsets = token_char_offsets(lambda ids: "".join(sorted(map(chr, ids))), [122 - i % 26 for i in range(200)])
    assert len(offsets) == 200
    assert all(0 <= span.start <= span.end <= 200 for span in offsets)


@given(WRITING)
def test_steps_tile_the_text_and_their_tokens_cover_them(text):
    ids = encode_bytes(text)
    offsets = token_char_offsets(decode_bytes, ids)
    steps = steps_of(text, ids, offsets)
    assert [step.chars for step in steps] == list(segment(text))
    assert [step.ordinal for step in steps] == list(range(1, len(steps) + 1))
    for step in steps:
        inside = offsets[step.tokens.start : step.tokens.end]
        assert inside[0].start <= step.chars.start < inside[0].end
        assert inside[-1].start < step.chars.end <= inside[-1].end
        kept = offsets[: cut_before(step)]
        assert all(span.end <= step.chars.start for span in kept)


def test_a_cut_falls_before_the_token_that_a_step_begins_in():
    text = "So it is. Wait, no."
    ids = encode_bytes(text)
    second = steps_of(text, ids, token_char_offsets(decode_bytes, ids))[1]
    assert text[second.chars.start :] == "Wait, no."
    kept = decode_bytes(ids[: cut_before(second)])
    assert kept in ("So it is.", "So it is. ")
    assert text.startswith(kept)


def test_steps_of_a_part_keep_token_positions_of_the_whole():
    text = "<think>\nOne. Two.\n</think>\n\nThree."
    ids = encode_bytes(text)
    offsets = token_char_offsets(decode_bytes, ids)
    first_char = text.index("One")
    steps = steps_of("One. Two.", ids, offsets, first_char=first_char)
    assert [step.chars for step in steps] == [Span(start=0, end=5), Span(start=5, end=9)]
    for step, words in zip(steps, ("One. ", "Two."), strict=True):
        assert words.strip() in decode_bytes(ids[step.tokens.start : step.tokens.end])


def test_an_empty_span_covers_no_token():
    offsets = (Span(start=0, end=2), Span(start=2, end=4))
    assert tokens_covering(Span(start=2, end=2), offsets) == Span(start=1, end=1)
    assert tokens_covering(Span(start=4, end=4), offsets) == Span(start=2, end=2)


def test_offsets_of_other_ids_are_refused():
    with pytest.raises(AssertionError):
        steps_of("a", [1, 2], (Span(start=0, end=1),))
