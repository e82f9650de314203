"""Splitting responses: every case that served reasoning parsers get wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.kit.errors import SetupError
from tracemend.records import Parse
from tracemend.traces.formats import FORMATS, get_format
from tracemend.traces.split import split_text

CASES = [
    # format, text, reasoning, answer, parse
    ("think", "<think>\nWhy not.\n</think>\n\nNo.", "Why not.", "No.", Parse.CLOSED),
    ("think", "Why not.</think>No.", "Why not.", "No.", Parse.CLOSED),
    ("think", "<think>Why not", "Why not", "", Parse.UNCLOSED),
    ("think", "No.", "", "No.", Parse.NO_TAGS),
    ("think", "The <think> tag opens it.", "", "The <think> tag opens it.", Parse.NO_TAGS),
    ("think", "  <think> a <think> b </think> c </think> d", "a <think> b", "c </think> d", Parse.CLOSED),
    ("think", "So: <think>a</think>b", "So: <think>a", "b", Parse.CLOSED),
    ("think", "</think>", "", "", Parse.CLOSED),
    ("think", "", "", "", Parse.NO_TAGS),
    ("r1", "Why not.\n</think>\n\nNo.", "Why not.", "No.", Parse.CLOSED),
    ("r1", "<think>\nWhy not.\n</think>\n\nNo.", "Why not.", "No.", Parse.CLOSED),
    ("r1", "Why not", "Why not", "", Parse.UNCLOSED),
    ("r1", "", "", "", Parse.UNCLOSED),
    ("r1", "a</think>", "a", "", Parse.CLOSED),
    ("qwen3", "<think>\n\n</think>\n\nNo.", "", "No.", Parse.CLOSED),
    ("qwen3", "No.", "", "No.", Parse.NO_TAGS),
    ("none", " Use </think> here. ", "", "Use </think> here.", Parse.NO_TAGS),
]


@pytest.mark.parametrize(("name", "text", "reasoning", "answer", "parse"), CASES)
def test_a_response_splits_into_reasoning_and_answer(name, text, reasoning, answer, parse):
    parts = split_text(text, get_format(name))
    assert text[parts.reasoning.start : parts.reasoning.end] == reasoning
    assert text[parts.answer.start : parts.answer.end] == answer
    assert parts.parse is parse


def test_the_callers_closing_tag_wins_over_one_spelt_in_the_reasoning():
    text = "a spelt </think> here</think>b"
    parts = split_text(text, get_format("r1"), close_char=text.rindex("</think>"))
    assert text[parts.reasoning.start : parts.reasoning.end] == "a spelt </think> here"
    assert text[parts.answer.start : parts.answer.end] == "b"


pieces = st.lists(st.sampled_from(["<think>", "</think>", "<thi", "nk>", " ", "\n", "word", "é", "</", "\u2003"]))


@given(pieces.map("".join), st.sampled_from(sorted(FORMATS)))
def test_nothing_but_tags_and_whitespace_is_lost(text, name):
    fmt = get_format(name)
    parts = split_text(text, fmt)
    assert 0 <= parts.reasoning.start <= parts.reasoning.end <= parts.answer.start <= parts.answer.end <= len(text)
    left_out = [
        text[: parts.reasoning.start],
        text[parts.reasoning.end : parts.answer.start],
        text[parts.answer.end :],
    ]
    assert "".join(left_out).split() in ([], [fmt.open_tag], [fmt.close_tag], [fmt.open_tag, fmt.close_tag]) or (
        "".join("".join(left_out).split()) == fmt.open_tag + fmt.close_tag
    )
    for span in (parts.reasoning, parts.answer):
        words = text[span.start : span.end]
        assert words == words.strip()


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(SetupError, match=r"did you mean 'qwen3'.*none.*r1.*think"):
        get_format("qwen")
