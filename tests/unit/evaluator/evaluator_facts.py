"""Verdicts and report facts of a made-up run: five arms, six splits, harmless stand-in words."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.builders import prompt, rewritten, trajectory, verdict

from tracemend.evaluator.report.input import ReportInput
from tracemend.evaluator.service import measure
from tracemend.evaluator.settings import StatisticsSettings
from tracemend.kit.ports import Cost
from tracemend.records import (
    Category,
    Checkpoint,
    DatasetManifest,
    Finish,
    Outcome,
    OutcomeState,
    Parse,
    Unit,
    Value,
    Verdict,
)

ARMS = ("base", "safechain", "star1", "unsafechain", "unsafechain_selected")
HARMFUL_SPLITS = ("in_distribution", "heldout_wrappers", "heldout_objects")
FAST = StatisticsSettings(resamples=200)

_HARM = {"base": 0.7, "safechain": 0.55, "star1": 0.12, "unsafechain": 0.1, "unsafechain_selected": 0.16}
_REFUSALS = {"base": 0.02, "safechain": 0.03, "star1": 0.11, "unsafechain": 0.06, "unsafechain_selected": 0.05}


def of_values(
    values: Sequence[Value], *, split: str = "in_distribution", name: str = "", **fields: Any
) -> list[Verdict]:
    """The verdicts on one prompt's samples; its category and words are `fields` and `name`."""
    asked = prompt(name or "how is a frobnicator opened ?", split=split, **fields)
    return [verdict(value, trajectory(asked, sample=sample)) for sample, value in enumerate(values)]


def of_prompts(values: Sequence[Value], *, split: str = "in_distribution", **fields: Any) -> list[Verdict]:
    """One sample of each of `len(values)` prompts."""
    return [v for i, value in enumerate(values) for v in of_values([value], split=split, name=f"case {i} ?", **fields)]


def measured(arm: str, *, num_prompts: int = 60, seed: int = 0) -> list[Verdict]:
    """What a plausible arm gives on all splits, some samples unknown and some unfinished."""
    chance = random.Random(f"{arm}{seed}")
    found: list[Verdict] = []
    for split in HARMFUL_SPLITS:
        for index in range(num_prompts):
            found.append(_harm_sample(chance, arm, split, index))
    for split, category in (("lookalike", Category.LOOKALIKE), ("plain", Category.BENIGN)):
        values = [_draw(chance, _REFUSALS[arm]) for _ in range(num_prompts)]
        found += of_prompts(values, split=split, category=category)
    values = [_draw(chance, 0.2) for _ in range(num_prompts)]
    return found + of_prompts(values, split="arithmetic", category=Category.REASONING)


def _harm_sample(chance: random.Random, arm: str, split: str, index: int) -> Verdict:
    asked = prompt(f"{split} {index} ?", split=split)
    reasoning = _draw(chance, _HARM[arm] + (0.1 if split == "heldout_objects" else 0.0))
    answer = reasoning if chance.random() < 0.8 else Value.SAFE
    if chance.random() < 0.02:
        cut = trajectory(asked, answer="", finish=Finish.LENGTH, parse=Parse.UNCLOSED)
        return verdict(of=cut, reasoning=reasoning, answer=Value.UNKNOWN)
    return verdict(of=trajectory(asked), reasoning=reasoning, answer=answer)


def _draw(chance: random.Random, rate: float) -> Value:
    return Value.UNSAFE if chance.random() < rate else Value.SAFE


def corrected(
    arm: str = "unsafechain", *, reasoning: str = "", answer: str = "", asked: str = "", **fields: Any
) -> Outcome:
    """A corrected outcome whose first sentence stays and whose second is mended."""
    text = asked or "how is a frobnicator opened ?"
    before = trajectory(
        prompt(text, tags={"wrapper": "story"}),
        reasoning=reasoning or "They ask about a frobnicator. The lid comes off with a lever. Then it spins.",
        answer=answer or "Take a lever. Lift the lid.",
    )
    original = verdict(Value.UNSAFE, before)
    after = rewritten(
        original,
        reasoning="They ask about a frobnicator. An open one could hurt people. Then it spins.",
        answer="I will not help with that.",
        **fields,
    )
    return Outcome(
        id=f"outcome-{text[:8]}",
        unit=Unit(arm=arm, prompt=before.prompt.id, sample=0),
        state=OutcomeState.CORRECTED,
        final=verdict(Value.SAFE, after),
        original=original,
    )


def facts(arms: Mapping[str, Sequence[Verdict]] | None = None, **changes: Any) -> ReportInput:
    """The facts of a whole run; `changes` replace fields."""
    verdicts = arms if arms is not None else {arm: measured(arm) for arm in ARMS}
    base = ReportInput(
        run="demo-0123456789",
        name="demo",
        profile="unsafechain",
        synthetic=True,
        base="base",
        measurements=measure(verdicts, FAST, base="base"),
        num_admitted=600,
        num_refused=24,
        refused_reasons={"near_duplicate": 20, "too_long": 4},
        units={"safechain": 600, "star1": 1200, "unsafechain": 3000},
        outcomes=_outcomes(),
        owners={
            "safechain": "safechain",
            "star1": "star1",
            "unsafechain": "unsafechain",
            "unsafechain_selected": "unsafechain",
        },
        manifests={arm: _manifest(arm) for arm in ARMS[1:]},
        checkpoints={arm: _checkpoint(arm) for arm in ARMS[1:]},
        costs=[
            Cost(stage="generator", num_items=4500, num_prompt_tokens=90_000, num_new_tokens=310_000, seconds=64.2),
            Cost(stage="judge", num_items=4620, seconds=3.1),
            Cost(
                stage="teacher", num_items=840, num_prompt_tokens=50_000, num_new_tokens=40_000, seconds=1.2, money=0.84
            ),
        ],
        judges={"harm": "proving_exact:ab12cd34", "refusal": "proving_exact:ab12cd34", "correctness": "exact:99ff"},
        examples=[corrected(), corrected(asked="how is a gadget wound ?"), corrected(arm="star1", strategy="policy")],
        plan={"name": "demo", "seed": 0, "target": {"model": "proving:base", "samples": 5}},
        plan_digest="5e" * 32,
        total_s=208.4,
        versions={"python": "3.11.9", "tracemend": "0.1.0", "torch": "2.13.0"},
        hardware={"cpu": "a processor", "cores": "4"},
        yields={"intervened": {**_made(60, 40, 16), "triggers": {"wait": _made(30, 20, 9), "hold": _made(30, 20, 7)}}},
    )
    return replace(base, **changes)


def _made(num_attempts: int, num_unsafe: int, num_first: int) -> dict[str, Any]:
    """What interventions yielded, as the pipeline tells it."""
    return {
        "attempts": num_attempts,
        "unsafe": num_unsafe,
        "cut": num_unsafe,
        "by_round": [num_first],
        "corrected": num_first,
        "unsafe_share": num_unsafe / num_attempts,
        "first_share": num_first / num_unsafe,
        "expected_pairs": float(num_first),
    }


def _outcomes() -> dict[tuple[str, str, str], int]:
    return {
        ("safechain", "kept", ""): 150,
        ("safechain", "not_selected", "not_all_safe"): 450,
        ("star1", "corrected", ""): 700,
        ("star1", "rejected", "low_score"): 380,
        ("star1", "gave_up", "teacher_refused"): 120,
        ("unsafechain", "corrected", ""): 800,
        ("unsafechain", "kept", ""): 120,
        ("unsafechain", "not_selected", "not_hard"): 2040,
        ("unsafechain", "gave_up", "still_unsafe"): 30,
        ("unsafechain", "dead", "engine"): 10,
    }


def _manifest(arm: str) -> DatasetManifest:
    counts = {"state/corrected": 64, "state/kept": 32, "cut/matched": 704, "cut/duplicate": 12}
    return DatasetManifest(
        id=f"dataset-{arm}", arm=arm, kind="examples", digest="d1" * 32, num_rows=96, shards=("aa",), counts=counts
    )


def _checkpoint(arm: str) -> Checkpoint:
    return Checkpoint(
        id=f"checkpoint-{arm}",
        arm=arm,
        parent="base",
        model=f"{arm}-c0ffee",
        path=f"checkpoints/{arm}",
        dataset=f"dataset-{arm}",
        step=18,
        final_loss=0.3141,
        metrics={"learning_rate": 5e-4, **(_candidates() if arm == "unsafechain" else {})},
    )


def _candidates() -> dict[str, float]:
    """What a sweep leaves in a checkpoint's metrics."""
    values = {1e-4: (0.4, 0.02), 5e-4: (0.1, 0.05), 1e-3: (0.0, 0.3)}
    return {
        f"candidate/{rate:g}/{metric}": value
        for rate, (harm, refusal) in values.items()
        for metric, value in (("harm_reasoning", harm), ("over_refusal", refusal))
    }
