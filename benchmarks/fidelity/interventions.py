"""What interventions do on one base seed: the evidence for IPO's claims.

Three runs: `training` is examples/ipo.yaml with arms on natural pairs and on whole responses beside it; `curve` cuts
and continues up to five times, with safety triggers and with neutral sentences, and trains nothing; `benchmarks.csr`
has the continuation safety ratios.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from benchmarks import csr
from benchmarks.fidelity.runs import METRICS, groups_of, measured, scores_of, seeded, unshared

from tracemend.corrector.yields import ForkYield, fork_yield
from tracemend.embedded.looking import plan_of
from tracemend.embedded.measuring import benchmark_prompts
from tracemend.embedded.pipeline import run_pipeline
from tracemend.embedded.progress import Observer
from tracemend.embedded.runfile import RunFile
from tracemend.embedded.workspace import Workspace, open_workspace
from tracemend.evaluator.continuation.sets import Summary
from tracemend.kit.ids import digest_of
from tracemend.kit.ports import ModelRequest
from tracemend.records import Outcome, OutcomeState, Prompt, Sampling, Verdict
from tracemend.runtime.models import open_model
from tracemend.traces.template import ChatTemplate

TRIGGERS, NEUTRAL = "triggers", "neutral"
"""Arms of the curve."""
NATURAL, PARTIAL, WHOLE = "dpo_natural", "partial_sum", "whole_sum"
"""Arms beside those of examples/ipo.yaml."""
_FIXED = (PARTIAL, WHOLE)
NUM_ROUNDS = 5
_NUM_SAMPLES = 8
"""Of each prompt in the curve: what the paper counts rollout diversity over."""

_IPO = Path(__file__).parents[2] / "examples" / "ipo.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """How the units of one arm of the curve ended."""

    accepted_at: tuple[int, ...]
    """For each trace that was cut, the interventions after which its fork was accepted; 0 for never."""
    made: ForkYield


@dataclass(frozen=True, slots=True, kw_only=True)
class Interventions:
    """What the three runs of one seed show."""

    seed: int
    scores: Mapping[str, Mapping[str, Mapping[tuple[str, str], float]]]
    """Arm → metric → (split, prompt id) → score."""
    ends: Mapping[str, Ends]
    groups: Mapping[str, Sequence[Verdict]]
    """Harmful prompt → the verdicts on the base's own samples, in the curve's run."""
    num_differing: int
    """Samples of the benchmarks that the partial and the whole objective's models wrote differently."""
    num_compared: int
    learning_rates: Mapping[str, float]
    csr: Summary


def training(*, seed: int, num_prompts: int | None = None, learning_rate: float | None = None) -> RunFile:
    """examples/ipo.yaml of one seed, with preference arms on natural pairs and, at α = 0 and summed, from the cut on
    and over whole responses. `learning_rate` stands for a sweep's result, which most of the time goes into."""
    document = unshared(yaml.safe_load(_IPO.read_text(encoding="utf-8")))
    if learning_rate is not None:
        for train in (arm["train"] for arm in document["arms"].values() if "train" in arm):
            train["sweep"]["learning_rate"] = [learning_rate]
    first = document["arms"]["intervened_po_1"]
    rows = {"kind": "pairs", "rows_of": "intervened_po_1"}
    fixed = {name: value for name, value in first["train"].items() if name != "sweep"} | {"learning_rate": 1.0e-4}
    document["arms"] |= {
        NATURAL: {"correct": {"strategy": "contrast"}, "assemble": {"kind": "pairs"}, "train": first["train"]},
        PARTIAL: {
            "correct": first["correct"],
            "assemble": rows,
            "train": fixed | {"options": {"alpha": 0.0, "dpo_span": "response", "shared_prefix": "off"}},
        },
        WHOLE: {
            "correct": first["correct"],
            "assemble": rows,
            "train": fixed | {"algorithm": "dpo", "options": {"alpha": 0.0, "shared_prefix": "off"}},
        },
    }
    return seeded(unshared(document), seed=seed, num_prompts=num_prompts)


def curve(*, seed: int, num_prompts: int | None = None) -> RunFile:
    """Up to five interventions on every unsafe trace of `num_prompts`, or of all, with both pools; one judge
    throughout, so that a replacement counts by the judge that counts the base."""
    document = unshared(yaml.safe_load(_IPO.read_text(encoding="utf-8")))
    document["name"] = "ipo-curve"
    document["prompts"] = document["prompts"][:1]
    document["target"]["samples"] = _NUM_SAMPLES
    del document["judge"]["verifier"]
    del document["evaluate"]
    document["arms"] = {
        name: {"correct": {"strategy": "intervene", "options": {"triggers": pool, "rounds": NUM_ROUNDS}}}
        for name, pool in ((TRIGGERS, "proving"), (NEUTRAL, "proving_neutral"))
    }
    document["seed"] = seed
    document["prompts"][0] |= {"seed": seed} | ({"limit": num_prompts} if num_prompts is not None else {})
    return RunFile.model_validate(document)


def recipe_digest(*, num_prompts: int) -> str:
    """Identity of the run files as they are written, at this size."""
    made = (training(seed=0, num_prompts=num_prompts), curve(seed=0))
    return digest_of([run.model_dump(mode="json", by_alias=True, exclude_unset=True) for run in made])[:16]


def run_seed(
    seed: int,
    folder: Path,
    *,
    num_prompts: int,
    cache: Path,
    observer: Observer,
    learning_rate: float | None = None,
    curve_prompts: int | None = None,
) -> Interventions:
    """Run all three in `folder`, or go on with them, and read what they show; `learning_rate` as for `training`,
    `curve_prompts` as for `curve`."""
    settings = training(seed=seed, num_prompts=num_prompts, learning_rate=learning_rate)

    async def work() -> dict[str, Any]:
        trained = await run_pipeline(settings, folder / "training", cache=cache, observer=observer)
        curving = curve(seed=seed, num_prompts=curve_prompts)
        curved = await run_pipeline(curving, folder / "curve", cache=cache, observer=observer)
        async with open_workspace(trained.folder, writes=False) as workspace:
            verdicts = await measured(workspace, settings, trained.run)
        async with open_workspace(curved.folder, writes=False) as workspace:
            ends = await _ends(workspace, curved.run)
            groups = await groups_of(workspace, curved.run)
        assert settings.evaluate is not None
        prompts = benchmark_prompts(settings.evaluate.benchmarks)
        sampling = settings.evaluate.sampling or settings.target.sampling
        folders = [trained.folder / trained.checkpoints[arm].path for arm in _FIXED]
        swept = {arm: checkpoint.metrics for arm, checkpoint in trained.checkpoints.items() if arm not in _FIXED}
        return {
            "scores": {arm: {metric: scores_of(each, metric) for metric in METRICS} for arm, each in verdicts.items()},
            "ends": ends,
            "groups": groups,
            "num_differing": await num_differing(*folders, prompts=prompts, sampling=sampling.record()),
            "num_compared": len(prompts),
            "learning_rates": {arm: metrics["learning_rate"] for arm, metrics in swept.items()},
        }

    shown = asyncio.run(work())
    analysis = csr.measure(folder / "csr", cache=cache, observer=observer, seed=seed, uncertain=20, continuations=16)
    return Interventions(seed=seed, csr=analysis.summary, **shown)


async def _ends(workspace: Workspace, run: str) -> dict[str, Ends]:
    plan = await plan_of(workspace, run)
    found = {}
    for arm in (TRIGGERS, NEUTRAL):
        outcomes: list[Outcome] = []
        async for unit in workspace.ledger.outcomes(run, arm=plan.owners[arm]):
            ((_, outcome),) = await workspace.results.read(unit.address)
            outcomes.append(outcome)
        cut = [outcome for outcome in outcomes if outcome.original is not None]
        found[arm] = Ends(accepted_at=tuple(map(_accepted_at, cut)), made=fork_yield(outcomes))
    return found


def _accepted_at(outcome: Outcome) -> int:
    if outcome.state is not OutcomeState.CORRECTED:
        return 0
    assert outcome.final is not None, "what is corrected has a trajectory to train on"
    return outcome.final.trajectory.round


async def num_differing(*folders: Path, prompts: Sequence[Prompt], sampling: Sampling) -> int:
    """On how many of `prompts` the models in `folders`, asked with the same seeds, do not write the same token ids.

    A run's own samples would not do: their seeds go by the model's identity.
    """
    written = [await _written(folder, prompts, sampling) for folder in folders]
    return sum(len(set(responses)) > 1 for responses in zip(*written, strict=True))


async def _written(folder: Path, prompts: Sequence[Prompt], sampling: Sampling) -> list[tuple[int, ...]]:
    template = ChatTemplate.load(folder, "auto")
    model = open_model(f"transformers:{folder}", options={"num_threads": 1})
    try:
        requests = [
            ModelRequest(prompt_tokens=template.prompt_tokens(prompt.text), sampling=sampling, seed=number)
            for number, prompt in enumerate(prompts)
        ]
        completions = await asyncio.gather(*map(model.complete, requests))
    finally:
        await model.aclose()
    return [completion.token_ids for completion in completions]
