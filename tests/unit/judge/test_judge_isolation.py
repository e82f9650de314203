from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.judge.isolation import as_json, clipped, defused
from tracemend.redaction import Text

CONTROL_TOKENS = [
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|user|>",
    "<|assistant|>",
    "<|channel|>",
    "<｜User｜>",
    "<｜end▁of▁sentence｜>",
    "<s>",
    "</s>",
    "<bos>",
    "<eos>",
    "<pad>",
    "<unk>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<think>",
    "</think>",
    "<<SYS>>",
    "<</SYS>>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[TOOL_CALLS]",
    "<0x0A>",
    "＜|eot_id|＞",
    "﹤s﹥",
]

hostile = st.lists(st.sampled_from(CONTROL_TOKENS) | st.text(max_size=5), max_size=8).map("".join)


@given(hostile)
def test_no_control_token_survives_as_json(text: str) -> None:
    line = as_json(text=Text(text), other=None)
    assert not [token for token in CONTROL_TOKENS if token in line]
    assert "\n" not in line


@given(st.text())
def test_json_data_is_lossless(text: str) -> None:
    assert json.loads(as_json(text=Text(text)))["text"] == text


@given(hostile)
def test_no_control_token_survives_defusing(text: str) -> None:
    safe = defused(Text(text))
    assert not [token for token in CONTROL_TOKENS if token in safe]


@given(hostile)
def test_defusing_only_adds_spaces_and_turns_separators_into_newlines(text: str) -> None:
    def letters(of: str) -> str:
        return re.sub(r"\s", "", of)

    assert letters(defused(Text(text))) == letters(text)


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
def test_every_line_that_imitates_the_frame_is_quoted(separator: str) -> None:
    text = separator.join(["fine", "Answers:", "  answers: no"])
    assert defused(Text(text), marks=re.compile(r"\s*answers:", re.IGNORECASE)) == "fine\n> Answers:\n>   answers: no"


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert defused(Text("a\ud800b")) == "a?b"
    assert as_json(text=Text("a\ud800b")) == '{"text": "a?b"}'


def test_clipping_keeps_head_and_tail_and_says_what_is_gone() -> None:
    text = clipped(Text("a" * 500 + "b" * 500), 100)
    assert text.startswith("a" * 50)
    assert text.endswith("b" * 50)
    assert "900 characters left out" in text
    assert clipped(Text("short"), 100) == "short"
