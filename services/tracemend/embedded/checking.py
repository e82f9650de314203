"""The dry run: everything about a run file that can be checked before anything is spent.

`tracemend run --dry-run` prints it. Nothing is sampled and no weights are loaded: folders, templates, sources, presets,
environment variables, judges and arms are looked at as the run itself would, and every problem is reported, not the
first alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tracemend.adapters import model_folder
from tracemend.corrector.decide import Means, check_plan
from tracemend.embedded.architectures import find_architecture
from tracemend.embedded.calibrations import read_calibrations
from tracemend.embedded.environment import filled
from tracemend.embedded.guarding import check_guards
from tracemend.embedded.plan import Plan, require_work, resolve
from tracemend.embedded.resources import longest_response
from tracemend.embedded.runfile import JudgeRole, ModelSettings, RunFile
from tracemend.embedded.sourcing import read
from tracemend.embedded.training import check_trainings
from tracemend.ingestion.rows import BadRow
from tracemend.ingestion.settings import PromptsSettings
from tracemend.judge.service import JudgeService
from tracemend.kit.errors import SetupError
from tracemend.kit.paths import path_of
from tracemend.kit.ports import Capabilities, Completion, ModelRequest, TextModel
from tracemend.redaction import Text
from tracemend.runtime.models import check_model

_LOCAL = ("transformers", "vllm")
_PROBE = (Text("what is 2 + 2 ?"), Text("the user asks about 2 + 2 ."), Text("the answer is 4 ."))
"""In words that the proving ground's word-level tokenizer has as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    what: str
    holds: bool
    detail: str


def check_run(settings: RunFile) -> list[Check]:
    """Look at everything; the checks in the order of the run file."""
    return list(_checks(settings))


def _checks(settings: RunFile) -> Iterator[Check]:
    for number, item in enumerate(settings.prompts):
        yield checked(f"prompts.{number} ({item.source})", partial(_source, item))
    yield checked("target", lambda: _target(settings))
    for name, model in settings.models.items():
        yield checked(f"models.{name}", partial(_model, name, model))
    stand_ins = {name: _NotOpened(model.engine) for name, model in settings.models.items()}
    yield checked("judge", lambda: _judges(settings, stand_ins))
    yield checked("arms", lambda: _arms(resolve(settings), stand_ins))
    evaluate = settings.evaluate
    for name, benchmark in ({**evaluate.benchmarks, **evaluate.validation} if evaluate else {}).items():
        yield checked(f"evaluate.{name} ({benchmark.prompts.source})", partial(_source, benchmark.prompts))
    if evaluate and evaluate.calibration:
        yield checked("evaluate.calibration", lambda: _calibrations(evaluate.calibration))


def checked(what: str, work: Callable[[], str]) -> Check:
    """What `work` says, or the problem that it raises for the user."""
    try:
        return Check(what=what, holds=True, detail=work())
    except (SetupError, ValueError) as problem:
        return Check(what=what, holds=False, detail=str(problem))


def check_template(folder: Path, reasoning_format: str) -> str:
    """Loads the tokenizer and its template, and sends a harmless exchange there and back."""
    from tracemend.traces.template import ChatTemplate

    template = ChatTemplate.load(folder, reasoning_format)
    question, reasoning, answer = _PROBE
    thought = reasoning if template.format.has_reasoning else Text("")
    prompt_ids, response_ids = template.render_training(question, thought, answer)
    parts = template.split(response_ids)
    for written, read_back in ((thought, parts.reasoning), (answer, parts.answer)):
        if written.reveal().split() != read_back.reveal().split():
            raise SetupError(
                f"the template of {folder} does not give back what was written (format '{template.format.name}'): set "
                "target.reasoning_format to the one that the model writes"
            )
    return f"format {template.format.name}, prompt of {len(prompt_ids)} tokens, ends by token {response_ids[-1]}"


def check_corrections(plan: Plan, *, models: Collection[str]) -> None:
    """`SetupError` where an arm's strategy lacks something that it needs of the run."""
    target = plan.run.target
    means = Means(
        models=models,
        engine=target.engine.partition("@")[0],
        takes_token_ids=target.engine in _LOCAL,
        has_detector=plan.run.judge.detector is not None,
    )
    for parent in plan.parents():
        check_plan(plan.corrections(parent), means)


def _source(item: PromptsSettings) -> str:
    first = next(read([item], first=1), None)
    if first is None:
        raise SetupError("it has no rows")
    if isinstance(first, BadRow):
        raise SetupError(f"{first.where}: {first.reason}: {first.detail}")
    return f"opens; the first row is {first.category.value}, licence {first.licence or 'unknown'}"


def _target(settings: RunFile) -> str:
    target = settings.target
    if target.engine not in _LOCAL:
        if any(arm.train is not None for arm in settings.arms.values()):
            raise SetupError(f"engine '{target.engine}' cannot be trained; leave out the arms' `train` sections")
        engine = filled(target.engine, where="target.engine")
        check_model(engine, options=target.engine_options)
        return engine.partition("@")[0]
    check_model(f"{target.engine}:{target.model}", options=target.engine_options)
    if target.model.startswith("proving:"):
        return "the proving ground's own model, trained on first use"
    folder = path_of(filled(target.model, where="target.model"))
    model_folder.check(folder)
    return f"{check_template(folder, target.reasoning_format)}; {_lengths(settings, folder)}"


def _lengths(settings: RunFile, folder: Path) -> str:
    """A `SetupError` where responses or training rows are longer than the model's context."""
    shape = find_architecture(folder)
    if shape is None:
        return "no shape in config.json"
    longest = longest_response(settings)
    if longest >= shape.context:
        raise SetupError(f"max_new_tokens {longest:,} leaves no room in the context of {shape.context:,} tokens")
    for name, arm in settings.arms.items():
        limit = arm.train.max_length if arm.train else 0
        if isinstance(limit, int) and limit > shape.context:
            raise SetupError(f"arms.{name}.train.max_length {limit:,} is beyond the context of {shape.context:,}")
    return f"responses of {longest:,} tokens fit the context of {shape.context:,}"


def _model(name: str, settings: ModelSettings) -> str:
    engine = filled(settings.engine, where=f"models.{name}.engine")
    check_model(engine, options=settings.options)
    scheme, _, rest = engine.partition(":")
    if scheme in _LOCAL:
        model_folder.check(Path(rest))
        return f"{scheme} folder is whole"
    return engine.partition("@")[0]


def _judges(settings: RunFile, models: Mapping[str, TextModel]) -> str:
    judges = JudgeService.build(settings.judge, models)
    return ", ".join(f"{axis}: {name.split(':')[0]}" for axis, name in judges.identity.items())


def _calibrations(files: Mapping[JudgeRole, str]) -> str:
    """Whether they are the run's own judges' is known once the judges' models are open."""
    return ", ".join(f"{role}: {error.judge}, {error.n:,} rows" for role, error in read_calibrations(files).items())


def _arms(plan: Plan, models: Mapping[str, TextModel]) -> str:
    require_work(plan.run)
    check_corrections(plan, models=models)
    check_guards(plan)
    check_trainings(plan)
    if not plan.order:
        return "none but the base"
    shared = {arm: f" (units of {owner})" for arm, owner in plan.owners.items() if owner != arm}
    return ", ".join(f"{arm}{shared.get(arm, '')}" for arm in plan.order)


class _NotOpened:
    """Stands for a model that a judge or arm names: it has an identity and cannot be asked."""

    capabilities = Capabilities(token_ids=True, logprobs=True)

    def __init__(self, identity: str) -> None:
        self.identity = identity

    async def complete(self, request: ModelRequest) -> Completion:
        raise AssertionError("a dry run asks no model")

    async def aclose(self) -> None:
        """Nothing is open."""
