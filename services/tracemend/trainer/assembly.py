"""From candidates to a dataset: which rows of an arm, in which shares, in which order. Pure and seeded.

The coordinator collects the candidates of an arm (`examples`, `pairs`) and calls `assemble` once, after `matched_rows`
has said how many rows the arms that are compared can all give, or `assemble_like` where an arm takes another's rows.
Arms that hold the same benign samples draw the same ones, so that a comparison of arms does not compare luck. Every
outcome that could have been a row is one or is counted in `cuts`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tracemend.kit.errors import SetupError
from tracemend.records import Category
from tracemend.trainer.candidates import Candidates, R, TrainingRow
from tracemend.trainer.selection import spread_over_tags
from tracemend.trainer.settings import AssembleSettings

HARMFUL, BENIGN, REASONING = "harmful", "benign", "reasoning"
"""The kinds of row that shares are stated for."""

KIND_OF = {
    Category.HARMFUL: HARMFUL,
    Category.BENIGN: BENIGN,
    Category.LOOKALIKE: BENIGN,
    Category.REASONING: REASONING,
}

A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled(Generic[A]):
    """The rows of a dataset in (row, sample, variant) order, and what was left out of it."""

    rows: tuple[A, ...]
    cuts: dict[str, int] = field(default_factory=dict)
    """Reason to the number of usable outcomes that did not become rows: `duplicate`, `unfinished`, `not_drawn_…`, …"""


def assemble(
    candidates: Candidates[R], settings: AssembleSettings, *, arm: str, limit_rows: int | None = None
) -> Assembled[R]:
    """The arm's rows.

    Args:
        candidates: What the arm could train on.
        settings: Shares, subset and seed.
        arm: Whose rows they are; for messages.
        limit_rows: Most rows to give, from `matched_rows`; the shares hold below it.

    Raises:
        SetupError: Nothing is left to train on.
    """
    cuts = dict(candidates.cuts)
    drawn: set[str] = set()
    available = available_rows(candidates)
    for kind, num_wanted in rows_of_kind(available, settings, limit_rows=limit_rows).items():
        pool = [row for row in candidates.rows if KIND_OF[row.prompt.category] == kind]
        taken = _choose(pool, num_wanted, kind=kind, settings=settings)
        if len(taken) < len(pool):
            cuts[f"not_drawn_{kind}"] = len(pool) - len(taken)
        drawn.update(row.id for row in taken)
    if not drawn:
        raise SetupError(
            f"arm '{arm}' has no rows to train on: {_counted(available)} usable rows do not allow the shares benign "
            f"{settings.benign_share:.2f} and reasoning {settings.reasoning_share:.2f}; change assemble's shares, or "
            f"see `tracemend failures` for what the prompts ended in (unfit for training: {_counted(candidates.cuts)})"
        )
    return Assembled(rows=tuple(row for row in candidates.rows if row.id in drawn), cuts=cuts)


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in numbers.items()) or "none"


def assemble_like(candidates: Candidates[R], model: Sequence[TrainingRow], *, arm: str, other: str) -> Assembled[R]:
    """The arm's own candidates for the rows `model` of another arm: one of each, in canonical order.

    Raises:
        SetupError: The arm has no candidate for a row, so that a comparison of the two would not be of equal data.
    """
    wanted = {_likeness(row) for row in model}
    found: dict[Hashable, R] = {}
    for row in candidates.rows:
        if _likeness(row) in wanted:
            found.setdefault(_likeness(row), row)
    if len(found) < len(model):
        raise SetupError(
            f"arm '{arm}' has {len(found)} of the {len(model)} rows of arm '{other}' that assemble.rows_of asks for: "
            "give both arms the same from, select, correct and keep sections, or use match instead"
        )
    num_other = len(candidates.rows) - len(found)
    cuts = {**candidates.cuts, "not_in_rows_of": num_other} if num_other else dict(candidates.cuts)
    return Assembled(rows=tuple(found.values()), cuts=cuts)


def _likeness(row: TrainingRow) -> Hashable:
    """What makes rows of two arms the same row: of harmful prompts the unit, of others the prompt, since an arm has one
    answer for each."""
    unit = row.unit
    if KIND_OF[row.prompt.category] == HARMFUL:
        return (row.prompt.id, unit.sample, unit.variant)
    return row.prompt.id


def available_rows(candidates: Candidates[R]) -> dict[str, int]:
    """Usable rows of an arm by kind: what `matched_rows` compares."""
    counts = {HARMFUL: 0, BENIGN: 0, REASONING: 0}
    for row in candidates.rows:
        counts[KIND_OF[row.prompt.category]] += 1
    return counts


def matched_rows(available: Mapping[str, Mapping[str, int]], settings: Mapping[str, AssembleSettings]) -> int:
    """The largest number of rows that every arm can give at its own shares.

    Args:
        available: Arm to usable rows by kind.
        settings: Arm to its `assemble` section.

    Raises:
        SetupError: An arm cannot give a single row at its shares.
    """
    limit: int | None = None
    while True:
        totals = {
            arm: sum(rows_of_kind(kinds, settings[arm], limit_rows=limit).values()) for arm, kinds in available.items()
        }
        empty = sorted(arm for arm, total in totals.items() if total == 0)
        if empty:
            raise SetupError(
                f"no rows to match at the stated shares in arm {', '.join(empty)}: sample more prompts, change its "
                "assemble section, or take it out of match"
            )
        # Shares are rounded, so an arm may allow a total and not the one below it: all must reach the same.
        if min(totals.values()) == max(totals.values()):
            return min(totals.values())
        limit = min(totals.values())


def rows_of_kind(
    available: Mapping[str, int], settings: AssembleSettings, *, limit_rows: int | None = None
) -> dict[str, int]:
    """How many rows of each kind make the largest dataset that the shares, the stock and the limits allow."""
    caps = [cap for cap in (settings.rows, limit_rows) if cap is not None]
    total = min([sum(available.values()), *caps])
    while True:
        split = _split(total, settings)
        if all(number <= available.get(kind, 0) for kind, number in split.items()):
            return split
        total -= 1


def _split(total: int, settings: AssembleSettings) -> dict[str, int]:
    num_benign = round(total * settings.benign_share)
    num_reasoning = min(round(total * settings.reasoning_share), total - num_benign)
    return {HARMFUL: total - num_benign - num_reasoning, BENIGN: num_benign, REASONING: num_reasoning}


def _choose(pool: list[R], number: int, *, kind: str, settings: AssembleSettings) -> list[R]:
    shuffled = sorted(pool, key=lambda row: draw_key(row, settings.seed))
    if kind == HARMFUL and settings.subset == "selected":
        return spread_over_tags(shuffled, number, keys=settings.spread)
    return shuffled[:number]


def draw_key(row: TrainingRow, seed: int) -> str:
    """Where a row stands in the seeded order: a hash of what the arms share, never of an arm's own text."""
    unit = row.unit
    return hashlib.sha256(f"{seed}:{row.prompt.id}:{unit.sample}:{unit.variant}".encode()).hexdigest()
