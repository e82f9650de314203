"""Cues of sampled trajectories get their cut from the target's own tokenizer."""

from __future__ import annotations

import asyncio

import pytest
from tests.builders import trajectory
from tests.unit.traces import trace_models

from tracemend.embedded.locating import TemplateLocator
from tracemend.judge.service import JudgeService
from tracemend.judge.settings import JudgeSettings
from tracemend.records import Cue, Trajectory
from tracemend.redaction import Text
from tracemend.traces.template import ChatTemplate

SETTINGS = JudgeSettings.model_validate(
    {"harm": {"name": "last_word"}, "detector": {"name": "rule_cue", "options": {"extra": ["let me check"]}}}
)
REASONING = "They ask about it.\n\nOkay, let me outline the steps. This is unsafe."
FAMILIES = {"r1": trace_models.r1, "qwen3": trace_models.qwen3}


def sampled(template: ChatTemplate, reasoning: str = REASONING) -> Trajectory:
    ids = template.response_tokens(Text(reasoning), Text("It is unsafe."))
    parts = template.split(ids)
    return trajectory(reasoning=parts.reasoning.reveal(), answer=parts.answer.reveal(), token_ids=ids)


def found(template: ChatTemplate | None, of: Trajectory) -> Cue:
    judge = JudgeService.build(SETTINGS, {}, locator=TemplateLocator(lambda: template))
    cue = asyncio.run(judge.grade(of)).cue
    assert cue is not None
    return cue


@pytest.mark.parametrize("family", ["r1", "qwen3"])
def test_the_cut_keeps_all_before_the_cue_and_nothing_of_it(family: str) -> None:
    template = ChatTemplate.load(FAMILIES[family]())
    of = sampled(template)
    cue = found(template, of)
    assert (cue.step, cue.char) == (2, REASONING.index("Okay"))
    kept = template.decode(of.token_ids[: cue.token]).reveal()
    assert kept.removeprefix("<think>").strip() == "They ask about it."


def test_a_word_level_tokenizer_is_cut_between_words() -> None:
    template = ChatTemplate.load(trace_models.word_level())
    of = sampled(template, "First, the user asks a question. Wait, is that right? Let me check: 6 times 7 is 42.")
    cue = found(template, of)
    assert cue.step == 3
    kept = template.decode(of.token_ids[: cue.token]).reveal()
    assert kept == "<think> First, the user asks a question. Wait, is that right?"


def test_ids_of_another_text_have_no_cut() -> None:
    template = ChatTemplate.load(trace_models.qwen3())
    other = sampled(template, "Another text. It is longer.")
    assert found(template, trajectory(reasoning=REASONING, answer="unsafe", token_ids=other.token_ids)).token == -1


def test_a_target_known_by_its_text_alone_has_no_cuts() -> None:
    assert found(None, sampled(ChatTemplate.load(trace_models.qwen3()))).token == -1
