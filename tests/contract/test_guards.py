"""Every guard over a real engine: what any plug-in promises (`generator.guarding.Guard`).

The model is tiny and random, the detector goes by common letters, so that every few sentences hold a cue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.builders import prompt
from tests.contract import tiny_models
from tests.fakes import FakeModel
from tests.unit.generator.guard_parts import TRIGGERS, WordFinder, shown

from tracemend.generator.guarding import Assignment, Guarded, GuardedGenerator, Piece, guards
from tracemend.generator.service import Generator, plan_samples
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import TextModel
from tracemend.records import Part, Sampling
from tracemend.redaction import Text
from tracemend.runtime.models import open_model
from tracemend.traces.formats import get_format
from tracemend.traces.template import ChatTemplate

pytestmark = pytest.mark.slow

SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=120)
REFUSAL = "no."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("guards") / "model")


@pytest.fixture(scope="module")
def template(folder: Path) -> ChatTemplate:
    return ChatTemplate.load(folder, "r1")


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[TextModel]:
    engine = open_model(f"transformers:{folder}", options={"num_threads": 1})
    yield engine
    asyncio.run(engine.aclose())


@pytest.fixture(params=guards.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(name: str, **options: Any) -> Any:
    return guards.create(name, finder=WordFinder(cue="e"), triggers=TRIGGERS, refusal=REFUSAL, **options)


def assignment(template: ChatTemplate, seed: int) -> Assignment:
    asked = prompt(f"how is number {seed} opened ?")
    return Assignment(prompt=asked, prompt_tokens=template.prompt_tokens(asked.text), sampling=SAMPLING, seed=seed)


async def written(guard: Any, model: TextModel, template: ChatTemplate, seed: int) -> tuple[list[Piece], Guarded]:
    pieces: list[Piece] = []
    async for piece in guard.write(assignment(template, seed), model=model, template=template):
        if isinstance(piece, Guarded):
            return pieces, piece
        pieces.append(piece)
    raise AssertionError("no whole")


async def test_what_was_shown_is_the_response_and_every_token_is_accounted(
    name: str, model: TextModel, template: ChatTemplate
) -> None:
    num_interventions = 0
    for guard in (made(name, chunk_tokens=0), made(name, chunk_tokens=7)):
        for pieces, done in await asyncio.gather(*(written(guard, model, template, seed) for seed in range(16))):
            split, tally = template.split(done.token_ids), done.tally
            assert (shown(pieces, Part.REASONING), shown(pieces, Part.ANSWER)) == (
                split.reasoning.reveal(),
                split.answer.reveal(),
            )
            num_drawn = tally.num_new_tokens - tally.num_discarded_tokens
            assert len(done.token_ids) == num_drawn + tally.num_inserted_tokens
            assert tally.num_prompt_tokens >= tally.num_cached_tokens
            num_interventions += tally.num_interventions
    assert num_interventions > 0, "the model must give the guard something to do"


async def test_a_guard_that_is_off_or_looks_on_changes_no_token(
    name: str, model: TextModel, template: ChatTemplate
) -> None:
    for seed in range(4):
        ids = [
            (await written(made(name, mode=mode, chunk_tokens=chunk), model, template, seed))[1].token_ids
            for mode in ("off", "monitor")
            for chunk in (0, 9)
        ]
        assert ids[0] == ids[2]
        assert ids[1] == ids[3]


async def test_many_at_once_write_what_each_writes_alone(name: str, model: TextModel, template: ChatTemplate) -> None:
    guard = made(name, chunk_tokens=16)
    together = await asyncio.gather(*(written(guard, model, template, seed) for seed in range(8)))
    for seed in range(8):
        _, alone = await written(guard, model, template, seed)
        assert together[seed][1].token_ids == alone.token_ids


async def test_closing_the_pieces_early_leaves_the_engine_free(
    name: str, model: TextModel, template: ChatTemplate
) -> None:
    pieces: AsyncIterator[Any] = made(name, mode="off", chunk_tokens=4).write(
        assignment(template, 0), model=model, template=template
    )
    await anext(pieces)
    await pieces.aclose()  # type: ignore[attr-defined]  # an async generator
    async with asyncio.timeout(20):
        await written(made(name), model, template, 1)


async def test_a_guarded_generator_gives_the_bases_samples_up_to_the_first_cue(
    name: str, model: TextModel, template: ChatTemplate
) -> None:
    plain = Generator(model, template=template, reasoning_format=template.format)
    guarded = GuardedGenerator(plain, made(name, chunk_tokens=0))
    assert guarded.identity != plain.identity
    base_requests = plan_samples(prompt(), model=plain.identity, sampling=SAMPLING, num_samples=6)
    requests = plan_samples(prompt(), model=guarded.identity, sampling=SAMPLING, num_samples=6)
    for base_request, request in zip(base_requests, requests, strict=True):
        base, trajectory = await plain.generate(base_request), await guarded.generate(request)
        step = trajectory.intervention
        num_same = step.cut_token if step else len(base.token_ids)
        assert trajectory.token_ids[:num_same] == base.token_ids[:num_same]
        assert (trajectory.round, trajectory.request, trajectory.parent) == (
            step.attempt if step else 0,
            request.id,
            "",
        )


async def test_forks_are_not_for_a_guard(name: str, model: TextModel, template: ChatTemplate) -> None:
    guarded = GuardedGenerator(Generator(model, template=template, reasoning_format=template.format), made(name))
    (request,) = plan_samples(prompt(), model=guarded.identity, sampling=SAMPLING, num_samples=1)
    with pytest.raises(SetupError, match="without the guard"):
        await guarded.generate(replace(request, prefix_tokens=(1, 2)))


def test_an_engine_that_gives_no_token_ids_is_refused_with_the_remedy(name: str) -> None:
    plain = Generator(FakeModel("x"), template=None, reasoning_format=get_format("think"), system=Text(""))
    with pytest.raises(SetupError, match="transformers:FOLDER"):
        GuardedGenerator(plain, made(name))
