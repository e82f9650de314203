"""Forks through the whole loop: planned, drawn, judged, cut again, accounted for, told and estimated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.unit.embedded.continued_traces import TEMPLATE, TOKENIZER, WORLD, said

from tracemend.corrector.requests import FORK
from tracemend.corrector.stage import CorrectorStage, TeacherStage
from tracemend.corrector.yields import fork_yield
from tracemend.embedded.ancestors import Ancestors
from tracemend.embedded.assumptions import Assumptions
from tracemend.embedded.checking import check_corrections
from tracemend.embedded.estimating import estimate
from tracemend.embedded.flows import Flow, Sampler, correct
from tracemend.embedded.intake import prompts_of, seal, units_of
from tracemend.embedded.laws import check_laws
from tracemend.embedded.locating import TemplateLocator
from tracemend.embedded.looking import OpenRun
from tracemend.embedded.plan import Plan, resolve
from tracemend.embedded.progress import Silent
from tracemend.embedded.runfile import BASE, RunFile, parse_run_file
from tracemend.embedded.story import tell
from tracemend.embedded.workspace import Workspace, open_workspace
from tracemend.generator.service import Generator
from tracemend.generator.stage import GeneratorStage
from tracemend.judge.service import JudgeService
from tracemend.judge.stage import JudgeStage
from tracemend.kit.errors import SetupError
from tracemend.kit.ports import Capabilities, Completion, ModelRequest
from tracemend.proving.automata import read
from tracemend.proving.corpus import ASSISTANT, END, USER
from tracemend.proving.grammar import Kind
from tracemend.proving.tokenizer import CLOSE, OPEN
from tracemend.proving.world import Ask
from tracemend.records import Category, Finish, Outcome, OutcomeState
from tracemend.redaction import Text

RUN = "forks-1"
TEXT = """\
name: forks
prompts:
  - {source: proving, subset: harmful_train, limit: 16}
  - {source: proving, subset: benign_train, limit: 4}
ingestion: {filters: {near_duplicates: false, decontamination: false}}
target: {model: proving:base, engine: ENGINE, samples: 4, sampling: {max_new_tokens: 120}}
judge:
  harm: {name: proving_exact}
  refusal: {name: proving_exact}
  correctness: {name: proving_exact}
DETECTOR
arms:
  ipo:
    correct: {strategy: intervene, options: {triggers: proving}}
    assemble: {kind: pairs}
  control:
    correct: {strategy: intervene, options: {triggers: proving_neutral, rounds: 3}}
    assemble: {kind: pairs}
  natural:
    correct: {strategy: contrast}
    assemble: {kind: pairs}
  refusals:
    correct: {strategy: refused}
"""


def run_file(*, engine: str = "transformers", has_detector: bool = True) -> RunFile:
    detector = "  detector: {name: proving_cue}\n" if has_detector else ""
    return parse_run_file(TEXT.replace("DETECTOR\n", detector).replace("ENGINE", engine), name="forks.yaml")


class Thinker:
    """A `TextModel` that thinks by rule in the proving ground's words: what it has written decides. After a trigger it
    refuses; before anything is decided, two seeds of three lean to harm on a harmful request."""

    identity = "thinker"
    capabilities = Capabilities(token_ids=True, seeds=True)

    def __init__(self) -> None:
        self.prompts: set[tuple[int, ...]] = set()

    async def complete(self, request: ModelRequest) -> Completion:
        self.prompts.add(request.prompt_tokens)
        question, _, response = TOKENIZER.decode(request.prompt_tokens).partition(ASSISTANT)
        ask = WORLD.parse(question.replace(USER, "").strip())
        assert isinstance(ask, Ask)
        kinds = {sentence.kind for sentence in read(response, WORLD) if sentence}
        helps = ask.category is not Category.HARMFUL or (Kind.TRIGGER not in kinds and request.seed % 3 > 0)
        steps = [Kind.CUE, Kind.PLAN] if helps else [Kind.TRIGGER, Kind.DECIDE]
        opening = [] if response.strip() else [OPEN, said(Kind.RESTATE, ask)]
        answer = said(Kind.COMPLY if helps else Kind.REFUSE, ask)
        text = " ".join([*opening, *(said(kind, ask) for kind in steps), CLOSE, answer, END])
        ids = tuple(TOKENIZER.encode(text, add_special_tokens=False))
        num_prompt_tokens = len(request.prompt_tokens)
        return Completion(
            text=Text(text), finish=Finish.STOP, token_ids=ids, num_prompt_tokens=num_prompt_tokens,
            num_new_tokens=len(ids),
        )  # fmt: skip

    async def aclose(self) -> None:
        return None


async def _unlimited() -> None:
    return None


@asynccontextmanager
async def finished(folder: Path) -> AsyncIterator[tuple[Workspace, Plan, Thinker]]:
    """The run, worked through with a model that thinks by rule."""
    plan, model = resolve(run_file()), Thinker()
    judge = JudgeService.build(plan.run.judge, {}, locator=TemplateLocator(lambda: TEMPLATE))
    target = Generator(model, template=TEMPLATE, reasoning_format=TEMPLATE.format)
    async with open_workspace(folder) as workspace:
        await workspace.ledger.open_run(RUN, plan=await workspace.store.put(plan.content))
        await seal(workspace, run=RUN, plan=plan, benchmarks=[], observer=Silent())
        flow = Flow.of_plan(plan, workspace=workspace, run=RUN, observer=Silent(), check=_unlimited)
        arms, corrections = plan.owned_by(BASE), plan.corrections(BASE)
        sampling = plan.run.target.sampling.record()
        stages = (
            GeneratorStage(target),
            JudgeStage(judge, workspace.results),
            CorrectorStage(corrections, ancestry=Ancestors(judge, workspace.results), identities={}, sampling=sampling),
            TeacherStage(corrections, {}),
        )
        sampler = Sampler(model=target.identity, sampling=sampling, num_samples=plan.run.target.samples)
        await correct(flow, prompts=prompts_of(workspace, RUN), sampler=sampler, stages=stages, arms=arms)
        yield workspace, plan, model


async def outcomes(workspace: Workspace, arm: str) -> list[Outcome]:
    units = [unit async for unit in workspace.ledger.outcomes(RUN, arm=arm)]
    return [record for unit in units for _, record in await workspace.results.read(unit.address)]


async def test_every_planned_fork_ends_once_and_the_laws_hold(tmp_path: Path) -> None:
    async with finished(tmp_path) as (workspace, plan, _):
        planned = [u async for prompt in prompts_of(workspace, RUN) for u in units_of(plan, prompt)]
        assert len([unit for unit in planned if unit.arm == "ipo" and unit.variant]) == 16 * 4
        assert [unit.arm for unit in planned].count("refusals") == 4, "harmful prompts are none of its business"
        ended = [o.unit for arm in plan.owned_by(BASE) for o in await outcomes(workspace, arm)]
        assert sorted(ended, key=repr) == sorted(planned, key=repr)
        assert all(finding.holds for finding in await check_laws(workspace, run=RUN, plan=plan))


async def test_a_fork_begins_with_its_samples_ids_and_the_trigger_and_is_judged_like_any_other(tmp_path: Path) -> None:
    async with finished(tmp_path) as (workspace, _, model):
        corrected = [o for o in await outcomes(workspace, "ipo") if o.state is OutcomeState.CORRECTED]
        assert corrected
        for outcome in corrected:
            assert outcome.original is not None
            assert outcome.final is not None
            assert outcome.original.cue is not None
            assert outcome.final.cue is not None
            fork, sample, h = outcome.final.trajectory, outcome.original.trajectory, outcome.original.cue.token
            assert fork.intervention is not None
            trigger = TEMPLATE.plain_tokens(fork.intervention.payload)
            assert fork.token_ids[: h + len(trigger)] == sample.token_ids[:h] + trigger
            assert (fork.parent, fork.sample, outcome.final.cue.step) == (sample.id, sample.sample, 0)
        assert len(model.prompts) > 20 + 16, "the model was asked to go on, and from many places"


async def test_the_control_goes_round_where_the_trigger_settles_at_once(tmp_path: Path) -> None:
    async with finished(tmp_path) as (workspace, _, _):
        safety = fork_yield(await outcomes(workspace, "ipo"))
        neutral = fork_yield(await outcomes(workspace, "control"))
    assert safety.num_cut == neutral.num_cut > 10
    assert safety.num_by_round == (safety.num_cut,)
    assert len(neutral.num_by_round) > 1
    curve = neutral.remaining(3)
    assert curve[0] == 1.0
    assert list(curve) == sorted(curve, reverse=True)
    assert safety.expected_pairs == pytest.approx(safety.num_corrected)


async def test_a_story_tells_the_forks_apart_from_samples_and_rewrites(tmp_path: Path) -> None:
    async with finished(tmp_path) as (workspace, plan, _):
        cut = next(o for o in await outcomes(workspace, "ipo") if o.state is OutcomeState.CORRECTED)
        assert cut.final is not None
        story = await tell(OpenRun(workspace=workspace, run=RUN, plan=plan), cut.final.trajectory.id)
    assert len(story.samples) == 4
    assert story.rewrites == ()
    assert {verdict.trajectory.intervention.kind for verdict in story.forks if verdict.trajectory.intervention} == {
        FORK
    }
    assert cut.final in story.forks
    assert story.num_open == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (run_file(engine='"openai:m@http://localhost/v1"'), "engine 'openai:m' does not take"),
        (
            run_file(engine='"scripted:null_target"'),
            "engine 'scripted:null_target' does not take.*transformers or vllm",
        ),
        (run_file(has_detector=False), "judge.detector"),
    ],
)
def test_a_run_that_cannot_fork_is_refused_at_planning(settings: RunFile, message: str) -> None:
    with pytest.raises(SetupError, match=f"arm '(ipo|control)'.*{message}"):
        check_corrections(resolve(settings), models={})


def test_an_estimate_counts_forks_and_the_pairs_that_they_give() -> None:
    found = estimate(run_file(), Assumptions(unsafe_share=0.5, fork_share=0.4))
    calls = {item.what: item.num_calls for item in found.items}
    units = 16 * 4
    assert calls["fork"] == round(units * 0.5) + round(units * 0.5 * (1 + 0.6 + 0.36))
    assert calls["sample"] == 20 * 4
    assert found.rows["ipo"] == round(units * 0.5 * 0.4)
    assert found.rows["control"] == round(units * 0.5 * (1 - 0.6**3))
