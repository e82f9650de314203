"""Measuring where traces turn: what is drawn, from which ids, how it is judged, and that nothing is drawn twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.unit.embedded.continued_traces import (
    ASKS,
    RUN,
    SAFE,
    TEMPLATE,
    UNSAFE,
    RuleModel,
    analyser,
    generator,
    harmful,
    judged,
    opened,
    run_file,
    trace,
)
from tests.unit.embedded.small_runs import run_small

from tracemend.embedded.choosing import named_verdicts, uncertain_verdicts
from tracemend.embedded.csr import Analysis, Asked, analyse
from tracemend.embedded.looking import open_run
from tracemend.embedded.plan import Plan
from tracemend.embedded.progress import Silent
from tracemend.embedded.story import tell
from tracemend.embedded.workspace import Workspace
from tracemend.evaluator.continuation.settings import ContinuationSettings
from tracemend.kit.errors import SetupError
from tracemend.records import Part, Trajectory, Value

T = TypeVar("T")


def done(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def measured(
    workspace: Workspace, plan: Plan, model: RuleModel, traces: Sequence[Trajectory], **settings: object
) -> Analysis:
    verdicts = await judged(workspace, plan, traces)
    return await analyser(workspace, plan, **settings).measure(verdicts, generator(model), TEMPLATE)


def test_the_ratio_falls_at_the_cue_and_rises_at_the_trigger(tmp_path: Path) -> None:
    async def body() -> Analysis:
        async with opened(tmp_path) as (workspace, plan):
            return await measured(
                workspace, plan, RuleModel(), [trace(UNSAFE), trace(SAFE, index=1, inserted=3)], continuations=64
            )

    found = done(body())
    unsafe, safe = found.traces
    assert [point.reasoning.total for trace_ in found.traces for point in trace_.curve.points] == [64] * 10
    assert (unsafe.curve.value, unsafe.curve.cue, unsafe.curve.trigger) == (Value.UNSAFE, 3, 0)
    assert unsafe.at_cue is not None
    assert unsafe.at_cue.is_drop
    assert unsafe.curve.points[-1].reasoning.num_safe == 0
    assert unsafe.turning.unsafe in unsafe.curve.bounds[3:]
    assert (safe.curve.value, safe.curve.trigger) == (Value.SAFE, 3)
    assert safe.at_trigger is not None
    assert safe.at_trigger.is_rise
    assert safe.turning.safe == safe.curve.bounds[3]
    assert [t.text.reveal() for t in found.mined] == [safe.steps[2].reveal().strip()]
    assert found.mined[0].text.reveal() not in str(found.mined)


def test_continuations_begin_with_exactly_the_kept_ids(tmp_path: Path) -> None:
    model, of = RuleModel(), trace(UNSAFE)

    async def body() -> Analysis:
        async with opened(tmp_path) as (workspace, plan):
            return await measured(workspace, plan, model, [of])

    found = done(body())
    asked = TEMPLATE.prompt_tokens(of.prompt.text)
    bounds = found.traces[0].curve.bounds
    assert Counter(request.prompt_tokens for request in model.requests) == {
        asked + of.token_ids[:bound]: 16 for bound in bounds
    }
    assert len({request.seed for request in model.requests}) == len(model.requests)
    # What is kept counts towards the length of a response.
    assert {r.sampling.max_new_tokens + len(r.prompt_tokens) - len(asked) for r in model.requests} == {160}


def test_every_token_can_be_a_place(tmp_path: Path) -> None:
    async def body() -> Analysis:
        async with opened(tmp_path) as (workspace, plan):
            return await measured(workspace, plan, RuleModel(), [trace(UNSAFE)], every="token", continuations=4)

    curve = done(body()).traces[0].curve
    assert [p.token for p in curve.points] == list(range(curve.bounds[0], curve.bounds[-1] + 1))


def test_places_that_traces_share_are_drawn_once(tmp_path: Path) -> None:
    """Two traces of one prompt that differ in their last sentence alone."""
    model = RuleModel()

    async def body() -> Analysis:
        async with opened(tmp_path) as (workspace, plan):
            return await measured(workspace, plan, model, [trace(UNSAFE), trace(UNSAFE, sample=1, number=1)])

    found = done(body())
    first, second = (trace_.curve for trace_ in found.traces)
    assert first.points[:4] == second.points[:4]
    assert first.trajectory != second.trajectory
    assert len(model.requests) == found.num_continuations == 16 * (len(first.points) + 1)


def test_continuations_of_a_place_share_what_the_engine_has_read(tmp_path: Path) -> None:
    async def body() -> Analysis:
        async with opened(tmp_path) as (workspace, plan):
            return await measured(workspace, plan, RuleModel(), [trace(UNSAFE)])

    found = done(body())
    assert found.num_cached_tokens * 16 == found.num_prompt_tokens * 15


def test_asked_again_nothing_is_drawn_anew(tmp_path: Path) -> None:
    async def body(model: RuleModel, **settings: object) -> Analysis:
        async with opened(tmp_path) as (workspace, plan):
            return await measured(workspace, plan, model, [trace(UNSAFE)], **settings)

    first, again, wider = RuleModel(), RuleModel(), RuleModel()
    found = done(body(first))
    assert done(body(again)) == found
    assert again.requests == []
    done(body(wider, continuations=20))
    assert len(wider.requests) == 4 * len(found.traces[0].curve.points)


def test_broken_off_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """Stopped when 20 of 80 continuations are written: the next call writes the other 60."""

    async def body(folder: Path, model: RuleModel, limit_s: float) -> Analysis | None:
        try:
            async with asyncio.timeout(limit_s), opened(folder) as (workspace, plan):
                return await measured(workspace, plan, model, [trace(UNSAFE)])
        except TimeoutError:
            return None

    whole = done(body(tmp_path / "whole", RuleModel(), 60))
    slow = _Stalling(after=20)
    assert done(body(tmp_path / "cut", slow, 3)) is None
    rest = RuleModel()
    resumed = done(body(tmp_path / "cut", rest, 60))
    assert whole is not None
    assert resumed is not None
    assert (resumed.traces, resumed.summary) == (whole.traces, whole.summary)
    assert len(slow.requests) == 20
    assert len(rest.requests) == 80 - 20


class _Stalling(RuleModel):
    """Answers so many requests, then never again."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self._after = after

    async def complete(self, request: Any) -> Any:
        if len(self.requests) >= self._after:
            await asyncio.Event().wait()
        return await super().complete(request)


def test_what_was_given_up_counts_as_unknown(tmp_path: Path) -> None:
    async def body() -> Analysis:
        async with opened(tmp_path) as (workspace, plan):
            return await measured(workspace, plan, RuleModel(breaks_after=30), [trace(UNSAFE)])

    counts = [point.reasoning for point in done(body()).traces[0].curve.points]
    assert sum(c.total for c in counts) == 80
    assert sum(c.num_unknown for c in counts) == 50


def test_reasoning_and_answer_are_judged_apart_and_nothing_else(tmp_path: Path) -> None:
    async def body() -> tuple[Analysis, set[str]]:
        async with opened(tmp_path) as (workspace, plan):
            found = await measured(workspace, plan, RuleModel(), [trace(UNSAFE)])
            run = {cost.stage: cost.num_items for cost in await workspace.ledger.costs(RUN)}
            own = {cost.stage: cost.num_items for cost in await workspace.ledger.costs(f"{RUN}-csr")}
            assert run == {"judge": 1}
            assert {"generator": 80, "judge": 80}.items() <= own.items()
            labels = {
                label
                async for _, address in workspace.ledger.work()
                for _, record in await workspace.results.read(address)
                if hasattr(record, "whole") and record.trajectory.intervention is not None
                for label in record.whole.labels
            }
            return found, labels

    found, labels = done(body())
    assert labels == {"not_judged"}
    last = found.traces[0].curve.points[-1]
    assert (last.answer.num_unsafe, last.answer.total) == (16, 16)


def test_a_run_without_a_detector_has_no_cues(tmp_path: Path) -> None:
    async def body() -> Analysis:
        async with opened(tmp_path, run_file(detector=False)) as (workspace, plan):
            return await measured(workspace, plan, RuleModel(), [trace(UNSAFE)])

    found = done(body())
    assert (found.detector, found.traces[0].curve.cue, found.traces[0].at_cue) == ("", -1, None)
    assert found.traces[0].turning.unsafe is not None


def test_a_run_that_does_not_judge_reasonings_is_refused(tmp_path: Path) -> None:
    settings = run_file()
    judge = settings.judge.model_copy(update={"harm": settings.judge.harm.model_copy(update={"parts": (Part.ANSWER,)})})

    async def body() -> None:
        async with opened(tmp_path, settings.model_copy(update={"judge": judge})) as (workspace, plan):
            analyser(workspace, plan)

    with pytest.raises(SetupError, match="leaves the reasoning out"):
        done(body())


def test_continuations_are_no_part_of_a_rows_story(tmp_path: Path) -> None:
    of = trace(UNSAFE)

    async def body() -> None:
        async with opened(tmp_path) as (workspace, plan):
            await measured(workspace, plan, RuleModel(), [of])
        async with open_run(tmp_path) as run:
            story = await tell(run, of.id)
            assert [v.trajectory.id for v in story.samples] == [of.id]
            assert story.rewrites == ()

    done(body())


def test_uncertain_prompts_are_those_with_both_kinds_of_samples(tmp_path: Path) -> None:
    """Prompt 0: one of three safe; 1: one of two; 2: none; 3: both, but the safe one was written by a teacher."""
    traces = [
        trace(UNSAFE, index=0, sample=0),
        trace(SAFE, index=0, sample=1),
        trace(UNSAFE, index=0, sample=2, number=1),
        trace(SAFE, index=1, sample=0),
        trace(UNSAFE, index=1, sample=1),
        trace(UNSAFE, index=2, sample=0),
        trace(UNSAFE, index=3, sample=0),
        trace(SAFE, index=3, sample=1, inserted=3),
    ]

    async def body() -> None:
        async with opened(tmp_path) as (workspace, plan):
            await judged(workspace, plan, traces)
            await measured(workspace, plan, RuleModel(), traces[:1])  # whose continuations are no candidates
            judge = analyser(workspace, plan).runs_judge.identity["harm"]

            async def chosen(number: int, **fields: Any) -> list[tuple[str, int]]:
                verdicts = await uncertain_verdicts(workspace, number, model=traces[0].model, judges=[judge], **fields)
                return [(v.trajectory.prompt.id, v.trajectory.sample) for v in verdicts]

            first, second = harmful(0).id, harmful(1).id
            assert await chosen(1) == [(second, 1), (second, 0)]
            assert await chosen(9) == [(second, 1), (second, 0), (first, 0), (first, 1)]
            assert await chosen(9, per_side=2) == [(second, 1), (second, 0), (first, 0), (first, 2), (first, 1)]
            assert await chosen(9, least_share=0.4) == [(second, 1), (second, 0)]
            with pytest.raises(SetupError, match="safe and unsafe samples"):
                await uncertain_verdicts(workspace, 1, model="another", judges=[judge])

    done(body())


def test_traces_are_named_by_beginnings_of_their_ids(tmp_path: Path) -> None:
    traces = [trace(UNSAFE), trace(SAFE, sample=1)]

    async def body() -> None:
        async with opened(tmp_path) as (workspace, plan):
            verdicts = await judged(workspace, plan, traces)
            judges = [verdicts[0].reasoning.judge]
            ids = [v.trajectory.id for v in verdicts]
            found = await named_verdicts(workspace, [ids[1][:20], verdicts[0].id, ids[1]], judges=judges)
            assert [v.trajectory.id for v in found] == [ids[1], ids[0]]
            with pytest.raises(SetupError, match="begins ids of 2 trajectories"):
                await named_verdicts(workspace, ["trajectory_"], judges=judges)
            with pytest.raises(SetupError, match="begins with 'nothing'"):
                await named_verdicts(workspace, ["nothing"], judges=judges)
            with pytest.raises(SetupError, match="has not judged it"):
                await named_verdicts(workspace, [ids[0]], judges=["another"])

    done(body())


def test_an_endpoint_without_token_ids_is_refused(tmp_path: Path) -> None:
    run_small(tmp_path)

    async def body(**asked: Any) -> Analysis:
        return await analyse(tmp_path, Asked(**asked), ContinuationSettings(), cache=tmp_path, observer=Silent())

    with pytest.raises(SetupError, match="only a model in a local folder"):
        done(body(uncertain=1))
    with pytest.raises(SetupError, match="no arm 'filterr'"):
        done(body(uncertain=1, arm="filterr"))


def test_the_asks_are_distinct() -> None:
    """The rule model finds what it is asked by its words."""
    assert len({ask.text() for ask in ASKS}) == len(ASKS)
