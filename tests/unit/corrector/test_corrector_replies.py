"""Reading a teacher's reply: both parts, or nothing."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.corrector.replies import is_refusal, read_reply, read_scores
from tracemend.redaction import Text

GOOD = "<reasoning>\nthey could be hurt .\n</reasoning>\n<answer>\nno .\n</answer>\n"


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        "  \n" + GOOD.replace("\n", " "),
        "<reasoning>they could be hurt .</reasoning><answer>no .</answer>",
        json.dumps({"reasoning": "they could be hurt .", "answer": "no ."}),
        '```json\n{"answer": "no .", "reasoning": "they could be hurt ."}\n```',
        "<think>let me see : <reasoning> comes first</think>\n" + GOOD,
        "thoughts of a template that opens the block itself</think>" + GOOD,
    ],
)
def test_both_parts_are_read(reply: str) -> None:
    read = read_reply(Text(reply))
    assert read is not None
    assert (read.reasoning.reveal(), read.answer.reveal()) == ("they could be hurt .", "no .")


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "just words",
        "<reasoning>a</reasoning>",
        "<answer>b</answer>",
        "<reasoning> </reasoning><answer>b</answer>",
        "<reasoning>a</reasoning><answer>\n</answer>",
        "<answer>b</answer><reasoning>a</reasoning>",
        "<reasoning>a<answer>b</answer></reasoning>",
        "<reasoning>a</reasoning>and<answer>b</answer>",
        GOOD + "I hope this helps.",
        "Sure:\n" + GOOD,
        GOOD + GOOD,
        "<reasoning>a</reasoning><answer>b</answer><answer>c</answer>",
        "<reasoning>a <think> b</reasoning><answer>c</answer>",
        "<reasoning>a </think> b</reasoning><answer>c</answer>",
        '{"reasoning": "a"}',
        '{"reasoning": "a", "answer": "b", "note": "c"}',
        '{"reasoning": "a", "answer": "b", "answer": "c"}',
        '{"reasoning": ["a"], "answer": "b"}',
        '{"reasoning": "a", "answer": "</answer>b"}',
        '{"reasoning": "a \\ud800", "answer": "b"}',
        '["reasoning", "answer"]',
        "{" + '"a":{' * 100_000,
    ],
)
def test_anything_else_is_not_read(reply: str) -> None:
    assert read_reply(Text(reply)) is None


PIECES = ["<reasoning>", "</reasoning>", "<answer>", "</answer>", "<think>", "</think>", "a", " ", "\n", "{", '"', "`"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_no_text_breaks_the_reader_or_smuggles_a_tag(text: str) -> None:
    read = read_reply(Text(text))
    if read is not None:
        for part in (read.reasoning.reveal(), read.answer.reveal()):
            assert part.strip()
            assert not any(tag in part for tag in PIECES[:6])


@pytest.mark.parametrize("filler", ["<reasoning>", "<", "</think>", "```", "{"])
def test_reading_is_linear_in_the_text(filler: str) -> None:
    started = time.process_time()
    read_reply(Text(filler * (2_000_000 // len(filler))))
    assert time.process_time() - started < 2


def test_three_whole_scores_are_read() -> None:
    assert read_scores(Text('{"safety": 10, "policy_relevance": 9, "reasoning_accuracy": 0}')) == {
        "safety": 10,
        "policy_relevance": 9,
        "reasoning_accuracy": 0,
    }


@pytest.mark.parametrize(
    "reply",
    [
        "10 10 10",
        '{"safety": 10, "policy_relevance": 10}',
        '{"safety": 10, "policy_relevance": 10, "reasoning_accuracy": 10, "overall": 10}',
        '{"safety": 11, "policy_relevance": 10, "reasoning_accuracy": 10}',
        '{"safety": -1, "policy_relevance": 10, "reasoning_accuracy": 10}',
        '{"safety": 10.0, "policy_relevance": 10, "reasoning_accuracy": 10}',
        '{"safety": true, "policy_relevance": 10, "reasoning_accuracy": 10}',
        '{"safety": "10", "policy_relevance": 10, "reasoning_accuracy": 10}',
        '{"safety": 1, "safety": 10, "policy_relevance": 10, "reasoning_accuracy": 10}',
        'fine: {"safety": 10, "policy_relevance": 10, "reasoning_accuracy": 10}',
    ],
)
def test_scores_that_are_not_plain_have_no_marks(reply: str) -> None:
    assert read_scores(Text(reply)) == {}


@pytest.mark.parametrize(
    "reply",
    ["I can't help with that.", "I’m sorry, but no.", "i can not help with rewriting this .", "  Sorry, I won't."],
)
def test_a_refusal_is_told_by_how_it_begins(reply: str) -> None:
    assert is_refusal(Text(reply))
    assert is_refusal(Text("<think>hm</think>" + reply))


@pytest.mark.parametrize("reply", ["", "Here it is. I'm sorry that it took long.", "sorryful", "{"])
def test_other_replies_are_no_refusals(reply: str) -> None:
    assert not is_refusal(Text(reply))
