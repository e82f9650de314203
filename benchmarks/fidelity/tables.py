"""What the committed pages of claims have in common: tables of figures, and what they were made with.

`page` and `ipo_page` write with it; a test reads the digests back and compares them with the code's.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.fidelity.claim import Claim
from benchmarks.fidelity.figures import Figure

E = TypeVar("E")

_PACKAGES = ("tracemend", "torch", "transformers", "trl")
_DIGEST = re.compile(r"^- (world|recipe|claims): `([0-9a-z]+)`$", re.MULTILINE)
_SIZE = re.compile(r"^- prompts per set: (\d+)$", re.MULTILINE)


def stated(page: str) -> tuple[dict[str, str], int]:
    """The digests and the prompts per set that a page states; no digests and 0 where it is no such page."""
    size = _SIZE.search(page)
    return dict(_DIGEST.findall(page)), int(size[1]) if size else 0


def claims_table(items: Sequence[tuple[Claim[E], Sequence[E]]]) -> str:
    """Claims with their figure over seeds, and whether they are met."""
    rows = []
    for claim, seeds in items:
        criterion = claim.criterion.text(claim.scale) if claim.criterion else "–"
        verdict = {True: "met", False: "**not met**", None: "reported"}[claim.holds(seeds)]
        rows.append((claim.says, claim.nature.value, shown(claim.over(seeds), claim.scale), criterion, verdict))
    reasons = [f"\n*Not met, {claim.says}*: {claim.not_shown}\n" for claim, _ in items if claim.not_shown]
    return table(("claim", "nature", "mean over seeds [interval]", "criterion", ""), rows) + "".join(reasons)


def seeds_table(items: Sequence[tuple[Claim[E], Sequence[E]]], *, seeds: Sequence[int]) -> str:
    """Claims with the figure of each seed, in the order of `seeds`."""
    numbers = [f"seed {seed}" for seed in seeds]
    rows = [(f"`{claim.key}`", *(shown(claim.of(seed), claim.scale) for seed in found)) for claim, found in items]
    return table(("claim", *numbers), rows)


def made_with(digests: Mapping[str, str], *, num_prompts: int, num_seeds: int, today: datetime.date) -> str:
    """The list at the end of a page, which `stated` reads."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    lines = [
        *(f"{name}: `{digest}`" for name, digest in digests.items()),
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


def shown(figure: Figure, scale: float) -> str:
    """A figure with its interval, times `scale`."""
    digits = 0 if scale == 1 else 1
    value, low, high = (f"{scale * x:.{digits}f}" for x in (figure.value, figure.low, figure.high))
    text = value if figure.low == figure.high else f"{value} [{low}, {high}]"
    return text.replace("-", "−")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
