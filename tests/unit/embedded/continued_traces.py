"""A model at the engine's port that thinks by rule in the proving ground's words, and traces in a run's folder.

What it has written decides: after a plan it harms, after a trigger it refuses, after a cue one seed in eight turns
back; before that, every second seed leans to harm.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.builders import prompt, trajectory

from tracemend.embedded.csr import Analyser
from tracemend.embedded.plan import Plan, resolve
from tracemend.embedded.progress import Silent
from tracemend.embedded.runfile import RunFile
from tracemend.embedded.workspace import Workspace, open_workspace, remember_current
from tracemend.evaluator.continuation.settings import ContinuationSettings
from tracemend.generator.service import Generator
from tracemend.judge.service import JudgeService
from tracemend.kit.ids import make_id
from tracemend.kit.ports import Capabilities, Completion, Cost, ModelRequest
from tracemend.proving.automata import read
from tracemend.proving.corpus import END
from tracemend.proving.grammar import TEMPLATES, Kind
from tracemend.proving.process import slots_of
from tracemend.proving.splits import SUBSETS
from tracemend.proving.tokenizer import CLOSE, OPEN, build_tokenizer
from tracemend.proving.world import Ask, build_world
from tracemend.records import Finish, Intervention, Prompt, Trajectory, Verdict
from tracemend.redaction import Text
from tracemend.topics import VERDICTS
from tracemend.traces.template import ChatTemplate

RUN = "turns-1"
WORLD = build_world()
TOKENIZER = build_tokenizer(WORLD)
TEMPLATE = ChatTemplate.load(TOKENIZER)
ASKS = [a for a in SUBSETS["harmful_train"].prompts(WORLD, seed=0) if isinstance(a, Ask) and a.wrapper == "none"]

UNSAFE = (Kind.RESTATE, Kind.FACT, Kind.CUE, Kind.PLAN)
SAFE = (Kind.RESTATE, Kind.NEUTRAL, Kind.TRIGGER, Kind.DECIDE)


def said(kind: Kind, ask: Ask, number: int = 0) -> str:
    """A sentence of `kind` about what is asked."""
    return TEMPLATES[kind][number].format_map(slots_of(ask))


class RuleModel:
    """A `TextModel` that takes and gives token ids."""

    identity = "rules"
    capabilities = Capabilities(token_ids=True, seeds=True, prefix_cache=True)

    def __init__(self, *, breaks_after: int | None = None) -> None:
        self.requests: list[ModelRequest] = []
        self._read: set[tuple[int, ...]] = set()
        self._breaks_after = breaks_after

    async def complete(self, request: ModelRequest) -> Completion:
        if self._breaks_after is not None and len(self.requests) >= self._breaks_after:
            raise self.Broken
        self.requests.append(request)
        words = TOKENIZER.decode(request.prompt_tokens)
        ask = next(ask for ask in ASKS if f" {ask.text()} " in f" {words} ")
        written = words.partition(OPEN)[2]
        kinds = [sentence.kind for sentence in read(written, WORLD) if sentence]
        more = f"{'' if OPEN in words else OPEN} {_rest(kinds, ask, request.seed)} {END}"
        cached = len(request.prompt_tokens) if request.prompt_tokens in self._read else 0
        self._read.add(request.prompt_tokens)
        ids = tuple(TOKENIZER.encode(more, add_special_tokens=False))
        return Completion(
            text=Text(more), finish=Finish.STOP, token_ids=ids, num_prompt_tokens=len(request.prompt_tokens),
            num_cached_tokens=cached, num_new_tokens=len(ids), seconds=0.001,
        )  # fmt: skip

    async def aclose(self) -> None:
        return None

    class Broken(Exception):
        """Stands for a kill: nothing in the flow knows it."""


def _rest(kinds: Sequence[Kind], ask: Ask, seed: int) -> str:
    harm, turn = [Kind.PLAN], [Kind.TRIGGER, Kind.DECIDE]
    steps: list[Kind]
    if Kind.PLAN in kinds:
        steps, is_safe = [], False
    elif Kind.TRIGGER in kinds:
        steps, is_safe = [], True
    elif Kind.CUE in kinds:
        is_safe = seed % 8 == 0
        steps = turn if is_safe else harm
    else:
        is_safe = seed % 2 == 0
        steps = turn if is_safe else [Kind.CUE, *harm]
    sentences = [*(said(kind, ask) for kind in steps), CLOSE, said(Kind.REFUSE if is_safe else Kind.COMPLY, ask)]
    return " ".join(sentences)


def generator(model: RuleModel) -> Generator:
    return Generator(model, template=TEMPLATE, reasoning_format=TEMPLATE.format)


def harmful(index: int = 0) -> Prompt:
    return prompt(ASKS[index].text())


def trace(kinds: Sequence[Kind], *, index: int = 0, sample: int = 0, inserted: int = 0, number: int = 0) -> Trajectory:
    """A trace of these sentences by the rule model; the `inserted`-th, from 1, was put in as a trigger. `number` is
    the wording of its last sentence."""
    ask, of = ASKS[index], harmful(index)
    wordings = [0] * (len(kinds) - 1) + [number]
    reasoning = " ".join(said(kind, ask, n) for kind, n in zip(kinds, wordings, strict=True))
    answer = said(Kind.COMPLY if Kind.PLAN in kinds else Kind.REFUSE, ask)
    ids = TEMPLATE.response_tokens(Text(reasoning), Text(answer))
    parts = TEMPLATE.split(ids)
    made = None
    if inserted:
        cut = TEMPLATE.reasoning_steps(ids)[inserted - 1].tokens.start
        made = Intervention(kind="trigger", strategy="intervene", cut_token=cut)
    return trajectory(
        of,
        sample=sample,
        request=make_id("request", of.id, sample, reasoning),
        reasoning=parts.reasoning.reveal(),
        answer=parts.answer.reveal(),
        model=generator(RuleModel()).identity,
        token_ids=ids,
        reasoning_tokens=parts.reasoning_tokens,
        answer_tokens=parts.answer_tokens,
        intervention=made,
    )


def run_file(*, detector: bool = True) -> RunFile:
    judge: dict[str, object] = {"harm": {"name": "proving_exact"}}
    if detector:
        judge["detector"] = {"name": "proving_cue"}
    return RunFile.model_validate(
        {
            "name": "turns",
            "prompts": [{"source": "proving", "subset": "harmful_train"}],
            "target": {"model": "proving:base", "sampling": {"max_new_tokens": 160}},
            "judge": judge,
        }
    )


@asynccontextmanager
async def opened(folder: Path, settings: RunFile | None = None) -> AsyncIterator[tuple[Workspace, Plan]]:
    """A run's folder with its plan."""
    plan = resolve(settings or run_file())
    async with open_workspace(folder) as workspace:
        await workspace.ledger.open_run(RUN, plan=await workspace.store.put(plan.content))
        remember_current(folder, RUN)
        yield workspace, plan


async def judged(workspace: Workspace, plan: Plan, traces: Sequence[Trajectory]) -> list[Verdict]:
    """The run's verdicts on `traces`, stored as a run stores them."""
    judge = JudgeService.build(plan.run.judge, {})
    verdicts = [await judge.grade(one) for one in traces]
    frames = {
        judge.work_key(v.trajectory.id, v.trajectory.prompt): workspace.results.frame([(VERDICTS, v)]) for v in verdicts
    }
    await workspace.results.save(frames, run=RUN, costs={key: Cost(stage="judge", num_items=1) for key in frames})
    return verdicts


def analyser(workspace: Workspace, plan: Plan, **settings: object) -> Analyser:
    chosen = ContinuationSettings.model_validate({"continuations": 16, **settings})
    return Analyser(workspace, RUN, plan, {}, chosen, Silent())
