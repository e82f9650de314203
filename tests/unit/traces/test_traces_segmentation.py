"""Segmentation: exact for any input, sensible on prose, linear on hostile input."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.needs import needs_data

from tracemend.redaction import Text
from tracemend.traces.formats import get_format
from tracemend.traces.segmentation import segment
from tracemend.traces.split import split_text


def cut(text):
    return [text[span.start : span.end] for span in segment(text)]


PIECES = [
    *".!?…。！？؟`~\n\r\t \u2028\"')]*12aZ",
    *("...", "```", "```python\n", "~~~~", "\r\n", "\n\n", "e.g. ", "Dr. ", "U.S. ", "1. ", "3.14", "No. 5"),
    *("Wait, ", "\\[ x^2. \\]", "$a. b$", "你好。", "مرحبا؟ ", "नमस्ते। ", "é", "👩‍👩‍👧", "\u200b", "\x00", "\ue000"),
]
anything = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=60).map("".join))


@given(anything)
def test_segments_are_not_empty_and_give_the_text_back(text):
    spans = segment(text)
    assert "".join(text[span.start : span.end] for span in spans) == text
    assert all(span.start < span.end for span in spans)
    assert [span.start for span in spans] == [0, *(span.end for span in spans)][: len(spans)]


@given(anything)
def test_a_segment_begins_with_a_word_unless_the_text_begins_with_space(text):
    for span in segment(text)[1:]:
        assert not text[span.start].isspace()


@given(st.lists(st.sampled_from(["So it is. ", "Is it? ", "Wait, no!\n", "It is 3.5 then. ", "好。", "Well...\n\n"])))
def test_sentences_that_stand_alone_stand_alone_together(sentences):
    assert cut("".join(sentences)) == sentences


@pytest.mark.parametrize(
    "text",
    [
        "It costs 3.14 dollars, or 1,000.50 in v1.2.3 of the plan.",
        "Ask Dr. Smith, Mr. Jones and Prof. Lee about it.",
        "Use an acid, e.g. vinegar, i.e. a weak one (cf. Fig. 3, No. 7).",
        "He lives in the U.S. Congress district of J. K. Rowling.",
        "They mix flour, water, etc. and wait.",
        "See file.txt at example.com/a.b?c=d!e for more.",
        '"Stop!" he said to "them?" and left.',
        "Hmm... maybe not… or so.",
        "1. Open the door.",
        "  - 12. Open the door.",
        "**2.** Open the door.",
        "a. Open the door.",
        "(It is so.)",
        "What?!",
        "Here 3! \\times 5! = 720, and n! / 2 too.",
        "",
    ],
)
def test_one_sentence_stays_whole(text):
    assert cut(text) == [text] * bool(text)


@pytest.mark.parametrize(
    "segments",
    [
        ["The user asks. ", "I refuse! ", "Why? ", "Because."],
        ["Wait... ", "No, that is wrong."],
        ["So.\n\n", "Wait,\n", "no."],
        ["1. Open it. ", "2. Close it.\n", "3. Go."],
        ["He said “no.” ", "(She left.) ", "**Done.** ", "Next."],
        ["No. ", "I will not do it in the U.S. ", "They know. ", "It is No. 5 there."],
        ["fralon is bad . ", "i do not help ! ", "so no ."],
        ["你好。", "再见！", "“好。”", "他走了？！", "是。"],
        ["مرحبا؟ ", "نعم. ", "यह है। ", "वह।"],
        ["So $a = 1.$ ", "Then (b = 2.) ", "It is 3! ", "Yes."],
        ["It is 5. ", "That is all at 5 p.m. ", "He left."],
        ["Crossing.\r\n", "Lines.\u2028", "Here"],
    ],
)
def test_sentences_and_lines_part(segments):
    assert cut("".join(segments)) == segments


def test_a_fenced_block_is_cut_at_lines_only():
    fenced = ["Look. ", "Here:\n", "```py\n", "x = 'A. B'  # c. D? e!\n\n    ", "y = 2. \n", "```\n", "Done. ", "Yes."]
    assert cut("".join(fenced)) == fenced
    longer = ["~~~~\n", "a. B\n", "~~~\n", "c. D\n", "~~~~~\n", "Fine. ", "So."]
    assert cut("".join(longer)) == longer
    inline = ["```x. y``` is. ", "So.\n", "Then. ", "Now."]
    assert cut("".join(inline)) == inline


def test_redacted_text_is_segmented_by_its_words():
    assert len(segment(Text("One. Two. Three."))) == 3


HOSTILE = ["a", ".", " ", "\n", ")", ".)", "a.b", "```", "~~~x", "B. ", "...a", ". a", "\ufffd", "*.", "e.g. b"]


@pytest.mark.parametrize("unit", HOSTILE)
def test_time_is_linear_in_the_length(unit):
    """Ten times the input takes about ten times as long, whatever it repeats; quadratic would be a hundred."""
    short, long = (_fastest(unit * (size // len(unit)) + "x") for size in (100_000, 1_000_000))
    assert long < 40 * max(short, 0.002)


def test_ten_megabytes_without_a_boundary_take_less_than_two_seconds():
    assert _fastest("word.word " * 1_000_000, repeats=1) < 2


def _fastest(text, repeats=2):
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        segment(text)
        times.append(time.process_time() - begin)
    return min(times)


def test_real_traces_fall_into_sentences():
    """On 976 traces of DeepSeek-R1: sentence-sized steps, and nearly none that ends without a terminator."""
    rows = json.loads((needs_data() / "star1" / "STAR-1.json").read_text(encoding="utf-8"))
    steps = []
    for row in rows:
        parts = split_text(row["response"], get_format("think"))
        trace = row["response"][parts.reasoning.start : parts.reasoning.end]
        own = cut(trace)
        assert "".join(own) == trace
        assert 2 <= len(own) <= 60
        steps += own
    lengths = sorted(map(len, steps))
    assert 60 <= lengths[len(lengths) // 2] <= 120
    assert lengths[-1] < 400
    assert lengths[0] >= 8
    unended = sum(step.rstrip()[-1] not in ".!?…。！？\"'”’)*:" for step in steps)
    assert unended / len(steps) < 0.001
