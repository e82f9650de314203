"""The committed table: claims with their figures, the seeds behind them, and what all of it was made with.

Written by `python -m benchmarks.fidelity`. A test compares the page's digests with the code's, so a changed world,
recipe or claim asks for a new table.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import StatisticsError, correlation

from benchmarks.fidelity.claims import COMPARISON, FACTORS, Claim, claims_digest, is_all_safe, is_hard
from benchmarks.fidelity.figures import Figure, mean_of, over_seeds
from benchmarks.fidelity.runs import HARM_SPLITS, METRICS, Evidence, recipe_digest, world_digest

from tracemend.embedded.runfile import BASE

_PACKAGES = ("tracemend", "torch", "transformers", "trl")
_DIGEST = re.compile(r"^- (world|recipe|claims): `([0-9a-z]+)`$", re.MULTILINE)
_SIZE = re.compile(r"^- prompts per set: (\d+)$", re.MULTILINE)
_HEAD = """\
<!-- Written by `make fidelity`; do not edit. -->
# The methods on the proving ground

> **SYNTHETIC.** A tiny model of an invented world. The figures show that the code recovers effects that the world
> plants or lets emerge; they are no evidence about real models.

What is claimed of UnsafeChain and of the methods that it is compared with, over {num_seeds} base seeds. A seed has its
own base model, prompts, samples and order of training. The world was frozen before any method was trained in it,
and the criteria were written before the seeds were run, with seed 0 seen at 40 prompts per set;
learning rates come from validation prompts (the demo's of seed 0, the factors' of each seed).

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


def stated(page: str) -> tuple[dict[str, str], int]:
    """The digests and the prompts per set that a page states; no digests and 0 where it is no such page."""
    size = _SIZE.search(page)
    return dict(_DIGEST.findall(page)), int(size[1]) if size else 0


def render(seeds: Sequence[Seed], *, num_prompts: int, today: datetime.date) -> str:
    """The whole page, in Markdown."""
    comparisons = [seed.comparison for seed in seeds]
    crossed = [seed.factors for seed in seeds]
    parts = [
        _HEAD.format(num_seeds=len(seeds)),
        "## Claims\n",
        _claims_table([(claim, comparisons) for claim in COMPARISON]),
        "## What separates hard prompts from rewriting\n",
        "`examples/unsafechain-factors.yaml`: four arms, equal rows and benign share. Reported, without a criterion.\n",
        _claims_table([(claim, crossed) for claim in FACTORS]),
        "## Seed by seed, with intervals over prompts\n",
        _seeds_table([(claim, comparisons) for claim in COMPARISON] + [(claim, crossed) for claim in FACTORS]),
        "## Arms\n",
        _arms_table(comparisons),
        _arms_table(crossed),
        "## What a more harmful base leaves the filter\n",
        _stock_table(comparisons),
        "## Made with\n",
        _made_with(num_prompts=num_prompts, num_seeds=len(seeds), today=today),
    ]
    return "\n".join(parts)


def _claims_table(items: Sequence[tuple[Claim, Sequence[Evidence]]]) -> str:
    rows = []
    for claim, seeds in items:
        criterion = claim.criterion.text(claim.scale) if claim.criterion else "–"
        verdict = {True: "met", False: "**not met**", None: "reported"}[claim.holds(seeds)]
        rows.append((claim.says, claim.nature.value, _shown(claim.over(seeds), claim.scale), criterion, verdict))
    return _table(("claim", "nature", "mean over seeds [interval]", "criterion", ""), rows)


def _seeds_table(items: Sequence[tuple[Claim, Sequence[Evidence]]]) -> str:
    numbers = [f"seed {evidence.seed}" for evidence in items[0][1]]
    rows = [(f"`{claim.key}`", *(_shown(claim.of(seed), claim.scale) for seed in seeds)) for claim, seeds in items]
    return _table(("claim", *numbers), rows)


def _arms_table(seeds: Sequence[Evidence]) -> str:
    rows = []
    for arm in seeds[0].scores:
        figures = [_arm_figure(seeds, arm, metric) for metric in METRICS]
        sizes = sorted({len(seed.rows[arm]) for seed in seeds}) if arm != BASE else []
        num_rows = "–" if not sizes else f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        undecided = sum(len(seed.undecided[arm]) for seed in seeds)
        rows.append((f"`{arm}`", num_rows, *(_shown(figure, 100) for figure in figures), str(undecided)))
    titles = tuple(metric.replace("_", " ") for metric in METRICS)
    return _table(("arm", "rows", *titles, "harmful prompts without verdict"), rows)


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
    table = _table(("seed", "base's harm of reasoning", "harmful prompts", "all samples unsafe", "all safe"), rows)
    try:
        together = f"{correlation(harm, safe):.2f}".replace("-", "−")
    except StatisticsError:
        together = "undefined"
    return f"{table}\n*planted*, reported: correlation of harm with all-safe prompts over the seeds: {together}.\n"


def _made_with(*, num_prompts: int, num_seeds: int, today: datetime.date) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    lines = [
        *(f"{name}: `{digest}`" for name, digest in digests(num_prompts=num_prompts).items()),
        f"base seeds: {num_seeds}",
        f"prompts per set: {num_prompts}",
        f"versions: Python {platform.python_version()}, {versions}",
        f"hardware: {_cpu_name()}, {len(os.sched_getaffinity(0))} cores",
        f"date: {today.isoformat()}",
    ]
    return "".join(f"- {line}\n" for line in lines)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _shown(figure: Figure, scale: float) -> str:
    digits = 0 if scale == 1 else 1
    value, low, high = (f"{scale * x:.{digits}f}" for x in (figure.value, figure.low, figure.high))
    text = value if figure.low == figure.high else f"{value} [{low}, {high}]"
    return text.replace("-", "−")


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
