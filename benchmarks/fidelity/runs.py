"""One base seed of the comparison: the demo's run file with what the claims need beside it, run, and read back.

A run is found again in its folder, so an interrupted seed goes on and a finished one costs seconds. The seed moves
everything that is drawn: corpus and initialisation of the base model, prompts, samples, rows and order of training.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.resources
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from benchmarks.fidelity.figures import Scores

from tracemend.embedded.measuring import benchmark_prompts
from tracemend.embedded.phases import results_of
from tracemend.embedded.pipeline import Finished, run_pipeline
from tracemend.embedded.progress import Observer
from tracemend.embedded.runfile import BASE, RunFile
from tracemend.embedded.workspace import Workspace, open_workspace
from tracemend.evaluator.scores import metrics
from tracemend.kit.ids import digest_of
from tracemend.proving.base_model import BaseConfig
from tracemend.records import Category, Example, Verdict
from tracemend.trainer.dataset import read_examples

HARM_SPLITS = ("in_distribution", "heldout_wrappers", "heldout_objects")
ENCYCLOPAEDIA = "encyclopaedia"
FULL, SMALL, SMALL_SELECTED = "unsafechain_full", "unsafechain_small", "unsafechain_small_selected"
"""UnsafeChain on all its corrections, and on a few of them drawn at random or spread over kinds of prompt."""
METRICS = ("harm_reasoning", "harm_answer", "over_refusal", "capability")

_SMALL_ROWS = 36
_LEARNING_RATES = {FULL: 4.0e-4, SMALL: 8.0e-4, SMALL_SELECTED: 2.0e-4}
"""What examples/unsafechain-sweep.yaml finds for the arms that the demo has not, by the demo's rule."""

_FACTORS = Path(__file__).parents[2] / "examples" / "unsafechain-factors.yaml"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one run of one seed shows."""

    seed: int
    scores: Mapping[str, Mapping[str, Scores]]
    """Arm → metric → scores."""
    undecided: Mapping[str, frozenset[tuple[str, str]]]
    """Arm → (split, prompt id) of the harm splits' prompts whose reasoning has no verdict."""
    quadrants: Mapping[str, Mapping[str, int]]
    """Arm → `reasoning/answer` values → samples of the harm splits."""
    groups: Mapping[str, Sequence[Verdict]]
    """Harmful alignment prompt → the verdicts on the base's own K samples."""
    rows: Mapping[str, Sequence[Example]]
    """Arm → what it was trained on."""
    matched: tuple[str, ...] = ()
    """Arms that are cut to the same number of rows."""


def comparison(*, seed: int, num_prompts: int | None = None) -> RunFile:
    """The demo's run with arms of all and of few corrections and the encyclopaedia-only objects, `num_prompts` per
    benchmark; None for the demo's own numbers."""
    text = importlib.resources.files("tracemend.embedded").joinpath("demo.yaml").read_text(encoding="utf-8")
    document = unshared(yaml.safe_load(text))
    like = document["arms"]["unsafechain"]
    share = like["assemble"]["benign_share"]
    rows: dict[str, dict[str, Any]] = {
        FULL: {},
        SMALL: {"rows": _SMALL_ROWS},
        SMALL_SELECTED: {"rows": _SMALL_ROWS, "subset": "selected"},
    }
    for arm, chosen in rows.items():
        train = {**like["train"], "learning_rate": _LEARNING_RATES[arm]}
        document["arms"][arm] = {**like, "assemble": {"benign_share": share, **chosen}, "train": train}
    document = unshared(document)
    benchmarks = document["evaluate"]["benchmarks"]
    prompts = benchmarks["in_distribution"]["prompts"]
    benchmarks[ENCYCLOPAEDIA] = {"prompts": {**prompts, "subset": "eval_encyclopaedia"}}
    return seeded(document, seed=seed, num_prompts=num_prompts)


def factors(*, seed: int, num_prompts: int | None = None) -> RunFile:
    """The factorial run: which prompts are corrected against how they are."""
    return seeded(unshared(yaml.safe_load(_FACTORS.read_text(encoding="utf-8"))), seed=seed, num_prompts=num_prompts)


def world_digest() -> str:
    """Identity of the world and of how its base models are made, but for their seeds."""
    return BaseConfig().digest()[:16]


def recipe_digest(*, num_prompts: int) -> str:
    """Identity of both run files as they are written, at this size; defaults that they leave out are the code's."""
    made = (comparison(seed=0, num_prompts=num_prompts), factors(seed=0, num_prompts=num_prompts))
    return digest_of([run.model_dump(mode="json", by_alias=True, exclude_unset=True) for run in made])[:16]


def run_seed(settings: RunFile, folder: Path, *, cache: Path, observer: Observer) -> Evidence:
    """Run `settings` in `folder`, or go on with it, and read what it shows."""

    async def work() -> Evidence:
        finished = await run_pipeline(settings, folder, cache=cache, observer=observer)
        return await gather(settings, finished)

    return asyncio.run(work())


async def gather(settings: RunFile, finished: Finished) -> Evidence:
    """The evidence of a finished run, from what lies in its folder."""
    async with open_workspace(finished.folder, writes=False) as workspace:
        verdicts = await measured(workspace, settings, finished.run)
        groups = await groups_of(workspace, finished.run)
    harm = {arm: [v for v in found if v.trajectory.prompt.split in HARM_SPLITS] for arm, found in verdicts.items()}
    scores = {arm: {metric: scores_of(found, metric) for metric in METRICS} for arm, found in verdicts.items()}
    asked = {arm: {(v.trajectory.prompt.split, v.trajectory.prompt.id) for v in harm[arm]} for arm in verdicts}
    return Evidence(
        seed=settings.seed,
        scores=scores,
        undecided={arm: frozenset(asked[arm] - scores[arm]["harm_reasoning"].keys()) for arm in verdicts},
        quadrants={
            arm: Counter(f"{v.reasoning.value.value}/{v.answer.value.value}" for v in harm[arm]) for arm in verdicts
        },
        groups=groups,
        rows={arm: read_examples(finished.folder / "datasets" / arm) for arm in finished.manifests},
        matched=next((arm.assemble.match for arm in settings.arms.values() if arm.assemble.match), ()),
    )


def unshared(document: Any) -> dict[str, Any]:
    """A run file as plain data in which no two places share an object, as YAML's anchors have them do."""
    copied: dict[str, Any] = json.loads(json.dumps(document))
    return copied


def seeded(document: dict[str, Any], *, seed: int, num_prompts: int | None) -> RunFile:
    """The run file of one base seed: its own base model, prompts, draws and order of training."""
    document["seed"] = seed
    evaluate = document["evaluate"]
    sources = [benchmark["prompts"] for benchmark in evaluate["benchmarks"].values()]
    if num_prompts is not None:
        for source in sources:
            source["limit"] = num_prompts
    validation = [benchmark["prompts"] for benchmark in evaluate.get("validation", {}).values()]
    for source in [*document["prompts"], *sources, *validation]:
        source["seed"] = seed
    for arm in document["arms"].values():
        for section in ("assemble", "train"):
            if section in arm:
                arm[section]["seed"] = seed
    return RunFile.model_validate(document)


async def measured(workspace: Workspace, settings: RunFile, run: str) -> dict[str, list[Verdict]]:
    """Arm → the verdicts on its samples of the benchmarks; their prompts carry the benchmark's split."""
    assert settings.evaluate is not None
    prompts = benchmark_prompts(settings.evaluate.benchmarks, first=settings.limit)
    phases = await results_of(workspace, run)
    found: dict[str, list[Verdict]] = {}
    for arm in (BASE, *settings.arms):
        keys = phases[f"evaluate:{arm}"]
        records = await workspace.results.records([key for prompt in prompts for key in keys[prompt.id]])
        found[arm] = [
            _under(verdict, prompt.split) for prompt in prompts for key in keys[prompt.id] for verdict in records[key]
        ]
    return found


def _under(verdict: Verdict, split: str) -> Verdict:
    prompt = dataclasses.replace(verdict.trajectory.prompt, split=split)
    return dataclasses.replace(verdict, trajectory=dataclasses.replace(verdict.trajectory, prompt=prompt))


async def groups_of(workspace: Workspace, run: str) -> dict[str, list[Verdict]]:
    """Harmful admitted prompt → the verdicts on fresh samples of it. No benchmark holds such a prompt, so they are the
    base's."""
    admitted = {item.prompt async for item in workspace.ledger.admitted(run)}
    groups: dict[str, dict[int, Verdict]] = defaultdict(dict)
    async for _, address in workspace.ledger.work():
        for _, record in await workspace.results.read(address):
            if isinstance(record, Verdict) and record.trajectory.intervention is None:
                prompt = record.trajectory.prompt
                if prompt.id in admitted and prompt.category is Category.HARMFUL:
                    groups[prompt.id][record.trajectory.sample] = record
    return {prompt: [samples[number] for number in sorted(samples)] for prompt, samples in groups.items()}


def scores_of(verdicts: Sequence[Verdict], name: str) -> dict[tuple[str, str], float]:
    """(split, prompt id) → the prompt's score under a metric, where it has one."""
    metric = metrics.create(name)
    of_prompt: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.axis is metric.axis:
            of_prompt[verdict.trajectory.prompt.split, verdict.trajectory.prompt.id].append(verdict)
    scored = {key: metric.score(group).value for key, group in of_prompt.items()}
    return {key: value for key, value in scored.items() if value is not None}
