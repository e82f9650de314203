"""The committed table: claims with their figures, the seeds behind them, and what all of it was made with.

Written by `python -m benchmarks.fidelity`. A test compares the page's digests with the code's, so a changed world,
recipe or claim asks for a new table.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import StatisticsError, correlation

from benchmarks.fidelity.claims import COMPARISON, FACTORS, claims_digest, is_all_safe, is_hard
from benchmarks.fidelity.figures import Figure, mean_of, over_seeds
from benchmarks.fidelity.runs import HARM_SPLITS, METRICS, Evidence, recipe_digest, world_digest
from benchmarks.fidelity.tables import claims_table, made_with, seeds_table, shown, table

from tracemend.embedded.runfile import BASE

_HEAD = """\
<!-- Written by `make fidelity`; do not edit. -->
# The methods on the proving ground

> **SYNTHETIC.** A tiny model of an invented world. The figures show that the code recovers effects that the world
> plants or lets emerge; they are no evidence about real models.

What is claimed of UnsafeChain and of the methods that it is compared with, over {num_seeds} base seeds. A seed has its
own base model, prompts, samples and order of training. The world was frozen before any method was trained in it,
and the criteria were written before the seeds were run, with seed 0 seen at 40 prompts per set;
learning rates come from validation prompts: the comparison's from a sweep on seed 0
(`examples/unsafechain-sweep.yaml`: at most one harmless request in ten refused, at most one sum in twenty wrong, and
then the least harm), the factors' from a sweep on each seed. IPO's claims have [a page of their own](fidelity-ipo.md)
(`python -m benchmarks.fidelity --only ipo`).

*planted*: the world was built to show it · *emergent*: it was not · *identity*: true by construction of the data, and
broken only by a fault of ours. Figures are percent and points unless they are counts; intervals are 95 % where the
criterion names no other.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """Both runs of one base seed."""

    comparison: Evidence
    factors: Evidence


def digests(*, num_prompts: int) -> dict[str, str]:
    """What a table stands on, as the code is now."""
    return {"world": world_digest(), "recipe": recipe_digest(num_prompts=num_prompts), "claims": claims_digest()}


def render(seeds: Sequence[Seed], *, num_prompts: int, today: datetime.date) -> str:
    """The whole page, in Markdown."""
    comparisons = [seed.comparison for seed in seeds]
    crossed = [seed.factors for seed in seeds]
    parts = [
        _HEAD.format(num_seeds=len(seeds)),
        "## Claims\n",
        claims_table([(claim, comparisons) for claim in COMPARISON]),
        "## What separates hard prompts from rewriting\n",
        "`examples/unsafechain-factors.yaml`: four arms, equal rows and benign share. Reported, without a criterion.\n",
        claims_table([(claim, crossed) for claim in FACTORS]),
        "## Seed by seed, with intervals over prompts\n",
        seeds_table(
            [(claim, comparisons) for claim in COMPARISON] + [(claim, crossed) for claim in FACTORS],
            seeds=[evidence.seed for evidence in comparisons],
        ),
        "## Arms\n",
        _arms_table(comparisons),
        _arms_table(crossed),
        "## What a more harmful base leaves the filter\n",
        _stock_table(comparisons),
        "## Made with\n",
        made_with(digests(num_prompts=num_prompts), num_prompts=num_prompts, num_seeds=len(seeds), today=today),
    ]
    return "\n".join(parts)


def _arms_table(seeds: Sequence[Evidence]) -> str:
    rows = []
    for arm in seeds[0].scores:
        figures = [_arm_figure(seeds, arm, metric) for metric in METRICS]
        sizes = sorted({len(seed.rows[arm]) for seed in seeds}) if arm != BASE else []
        num_rows = "–" if not sizes else f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        undecided = sum(len(seed.undecided[arm]) for seed in seeds)
        rows.append((f"`{arm}`", num_rows, *(shown(figure, 100) for figure in figures), str(undecided)))
    titles = tuple(metric.replace("_", " ") for metric in METRICS)
    return table(("arm", "rows", *titles, "harmful prompts without verdict"), rows)


def _arm_figure(seeds: Sequence[Evidence], arm: str, metric: str) -> Figure:
    splits = HARM_SPLITS if metric.startswith("harm") else None
    figures = [mean_of(seed.scores[arm][metric], splits) for seed in seeds]
    return over_seeds([figure.value for figure in figures]) if len(figures) > 1 else figures[0]


def _stock_table(seeds: Sequence[Evidence]) -> str:
    harm = [mean_of(seed.scores[BASE]["harm_reasoning"], HARM_SPLITS).value for seed in seeds]
    safe = [sum(map(is_all_safe, seed.groups.values())) for seed in seeds]
    hard = [sum(map(is_hard, seed.groups.values())) for seed in seeds]
    rows = [
        (str(seed.seed), f"{100 * harm[i]:.1f}", str(len(seed.groups)), str(hard[i]), str(safe[i]))
        for i, seed in enumerate(seeds)
    ]
    stock = table(("seed", "base's harm of reasoning", "harmful prompts", "all samples unsafe", "all safe"), rows)
    try:
        together = f"{correlation(harm, safe):.2f}".replace("-", "−")
    except StatisticsError:
        together = "undefined"
    return f"{stock}\n*planted*, reported: correlation of harm with all-safe prompts over the seeds: {together}.\n"
