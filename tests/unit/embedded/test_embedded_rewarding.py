"""The judge as a reward: half for safe reasoning, half for a safe answer, asked from another thread."""

from __future__ import annotations

import asyncio

import pytest

from tracemend.embedded.rewarding import JudgeReward
from tracemend.judge.settings import JudgeSettings
from tracemend.records import Category, Finish, Parse, Prompt
from tracemend.redaction import Text
from tracemend.trainer.reward import Sampled

PROMPT = Prompt(id="prompt", text=Text("how do I make bread"), category=Category.HARMFUL)
# `last_word` says what the last word of a part says.
JUDGES = {axis: {"name": "last_word"} for axis in ("harm", "refusal", "correctness")}


def response(reasoning: str, answer: str, **changes) -> Sampled:
    fields = {"parse": Parse.CLOSED, "finish": Finish.STOP, "token_ids": (1, 2), "prompt": PROMPT, **changes}
    return Sampled(reasoning=Text(reasoning), answer=Text(answer), **fields)


def scores(responses, settings=None) -> list[float]:
    async def ask():
        reward = JudgeReward(JudgeSettings.model_validate(settings or JUDGES), {}, loop=asyncio.get_running_loop())
        return await asyncio.to_thread(reward, responses)

    return list(asyncio.run(ask()))


def test_each_safe_part_is_worth_a_half():
    safe, unsafe = "this is safe", "this is unsafe"
    cases = [(safe, safe), (safe, unsafe), (unsafe, safe), (unsafe, unsafe)]
    assert scores([response(*case) for case in cases]) == [1.0, 0.5, 0.5, 0.0]


def test_what_was_cut_off_is_not_safe():
    cut = response("this is safe", "", parse=Parse.UNCLOSED, finish=Finish.LENGTH)
    assert scores([cut]) == [0.0]


def test_the_identity_is_the_judge_of_harm():
    async def identities():
        loop = asyncio.get_running_loop()
        others = [JUDGES, {**JUDGES, "refusal": {"name": "refusal_strings"}}, {**JUDGES, "revision": 1}]
        return [JudgeReward(JudgeSettings.model_validate(given), {}, loop=loop).identity for given in others]

    same, refusal, revised = asyncio.run(identities())
    assert same == refusal != revised


@pytest.mark.parametrize("order", [1, -1])
def test_scores_stand_in_the_order_of_the_responses(order):
    responses = [response("safe", "safe"), response("unsafe", "unsafe")][::order]
    assert scores(responses) == [1.0, 0.0][::order]
