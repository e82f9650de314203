"""A folder of each real architecture through all that handles models: TRL trains it, both engines serve the result."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.contract import text_model_suite as suite
from tests.contract import tiny_models
from tests.unit.trainer.trainer_builders import example_of, job_of

from tracemend.kit.ports import ModelRequest
from tracemend.records import Parse
from tracemend.runtime.jobs import identity_of_model
from tracemend.runtime.models import open_model
from tracemend.traces.template import ChatTemplate
from tracemend.trainer.training import train

pytestmark = pytest.mark.slow

LONG = replace(suite.GREEDY, max_new_tokens=160)
EXAMPLES = [example_of(number) for number in range(12)]


@pytest.mark.parametrize("architecture", tiny_models.ARCHITECTURES)
def test_a_model_is_trained_and_served_as_one(architecture: str, tmp_path: Path) -> None:
    """From random weights to memorised rows: what was trained is what either engine writes, token for token."""
    base = tiny_models.build(tmp_path / "base", architecture)
    job = job_of(tmp_path / "job", base=base, examples=EXAMPLES, epochs=60, learning_rate=3e-3, scheduler="linear")
    checkpoint = train(job, identify=identity_of_model)
    folder = job.root / checkpoint.path
    template = ChatTemplate.load(folder)
    ours, theirs = (asyncio.run(answers(f"{engine}:{folder}", template)) for engine in ("transformers", "vllm"))
    assert ours.identity == theirs.identity == checkpoint.model != identity_of_model(base)
    assert ours.token_ids == theirs.token_ids
    splits = [template.split(token_ids) for token_ids in ours.token_ids]
    learnt = [
        split.parse is Parse.CLOSED and (split.reasoning, split.answer) == (example.reasoning, example.answer)
        for split, example in zip(splits, EXAMPLES, strict=True)
    ]
    assert sum(learnt) >= len(EXAMPLES) / 2, "too few rows were learnt by heart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What an engine wrote, greedily, to each example's prompt."""

    identity: str
    token_ids: list[tuple[int, ...]]


async def answers(address: str, template: ChatTemplate) -> Answers:
    """Open the engine at `address`, ask it, close it."""
    requests = [
        ModelRequest(prompt_tokens=template.prompt_tokens(example.prompt.text), sampling=LONG) for example in EXAMPLES
    ]
    model = await asyncio.to_thread(open_model, address)
    try:
        completions = await asyncio.gather(*map(model.complete, requests))
    finally:
        await model.aclose()
    return Answers(identity=model.identity, token_ids=[completion.token_ids for completion in completions])
