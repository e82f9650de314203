"""The `TextModel` contract over scripted engines, as far as a script that draws nothing can keep it."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.contract import text_model_suite as suite

from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import Capabilities, ModelRequest
from tracemend.runtime.models import open_model


@pytest.mark.parametrize(
    "check",
    suite.checks_for(Capabilities(seeds=True), reopens=False, samples=False),
    ids=lambda check: check.__name__,
)
async def test_scripted_echo(check: suite.Check) -> None:
    model = open_model("scripted:echo")
    await check(suite.Subject(model=model, reopen=lambda: open_model("scripted:echo")))


async def test_closing_ends_delayed_requests_with_retry() -> None:
    model = open_model("scripted:null_target", options={"delay_s": 60.0})
    tasks = [asyncio.create_task(model.complete(suite.ask(i))) for i in range(20)]
    await asyncio.sleep(0.01)
    await model.aclose()
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert all(isinstance(e, Retry) for e in ended)


async def test_delays_run_side_by_side_and_depend_on_the_seed_alone() -> None:
    model = open_model("scripted:null_target", options={"delay_s": 0.05, "jitter_s": 0.05})
    started = time.monotonic()
    once = await asyncio.gather(*(model.complete(suite.ask(i)) for i in range(200)))
    assert time.monotonic() - started < 2.0
    again = await model.complete(suite.ask(7))
    assert again.seconds == once[7].seconds
    assert all(0.05 <= c.seconds <= 0.1 for c in once)


async def test_null_target_marks_its_text_and_keeps_its_share() -> None:
    model = open_model("scripted:null_target", options={"unsafe_share": 0.5, "hard_share": 0.2})
    samples = [[await model.complete(suite.ask(i, seed=s)) for s in range(4)] for i in range(200)]
    unsafe = [[c.text.reveal().endswith("answer is unsafe.") for c in k] for k in samples]
    share = sum(map(sum, unsafe)) / 800
    assert 0.5 < share < 0.7  # 0.2 + 0.8 × 0.5
    hard = sum(map(all, unsafe)) / 200
    assert 0.15 < hard < 0.37  # 0.2 + 0.8 × 0.5⁴
    assert all(c.text.reveal().startswith("<think>") for k in samples for c in k)


async def test_null_teacher_answers_rewrites_and_refuses_what_is_no_task() -> None:
    from tracemend.kit.errors import Reject

    model = open_model("scripted:null_teacher")
    good = ModelRequest(messages=({"role": "user", "content": '{"task": "rewrite", "prompt": "p"}'},))
    assert (await model.complete(good)).text.reveal().count("<answer>") == 1
    with pytest.raises(Reject, match="teacher_cannot_parse"):
        await model.complete(suite.ask(0))


def test_identity_holds_script_and_options_but_no_delay() -> None:
    plain = open_model("scripted:null_target").identity
    assert open_model("scripted:null_target", options={"delay_s": 1.0}).identity == plain
    assert open_model("scripted:null_target", options={"unsafe_share": 0.1}).identity != plain
    assert open_model("scripted:echo").identity != plain


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("transformer:/x", "did you mean 'transformers'"),
        ("scripted:", "scripted:NAME"),
        ("scripted:ecko", "did you mean 'echo'"),
        ("openai:model-only", "openai:MODEL@http"),
        ("transformers:/nowhere/at/all", "no model folder"),
    ],
)
def test_a_wrong_address_says_what_is_right(url: str, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        open_model(url)


def test_an_unknown_engine_option_names_the_nearest() -> None:
    with pytest.raises(SetupError, match="did you mean 'max_batch'"):
        open_model("transformers:/x", options={"max_bach": 3})
