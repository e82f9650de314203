"""From outcomes to supervised rows: which of them, in which shares, in which order. Pure and seeded.

The coordinator calls `assemble` once per arm, after `matched_rows` has said how many rows the arms that are compared
can all give. The same outcomes give the same rows in any order of arrival, and arms that hold the same benign samples
draw the same ones, so that a comparison of arms does not compare luck. Every outcome that could have been a row is one
or is counted in `cuts`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tracemend.kit.errors import SetupError
from tracemend.kit.ids import digest_of, make_id
from tracemend.records import Category, Example, Outcome, OutcomeState, Trajectory
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """The rows of a dataset in (row, sample, variant) order, and what was left out of it."""

    examples: tuple[Example, ...]
    cuts: dict[str, int] = field(default_factory=dict)
    """Reason to the number of usable outcomes that did not become rows: `duplicate`, `unfinished`, `share`, …"""


def assemble(
    outcomes: Sequence[Outcome],
    settings: AssembleSettings,
    *,
    arm: str,
    limit_rows: int | None = None,
    row_of: Mapping[str, int] | None = None,
) -> Assembled:
    """The arm's rows.

    Args:
        outcomes: The arm's outcomes; only `KEPT` and `CORRECTED` ones are looked at.
        settings: Shares, subset and seed.
        arm: Name that the rows' units carry.
        limit_rows: Most rows to give, from `matched_rows`; the shares hold below it.
        row_of: Prompt id to row number as admitted, which orders the rows; none orders by prompt id.

    Raises:
        SetupError: Nothing is left to train on.
    """
    usable, cuts = _usable(outcomes, arm=arm, row_of=row_of or {})
    wanted = rows_of_kind(_count(usable), settings, limit_rows=limit_rows)
    chosen: list[Example] = []
    for kind, num_wanted in wanted.items():
        pool = [example for example in usable if KIND_OF[example.prompt.category] == kind]
        taken = _choose(pool, num_wanted, kind=kind, settings=settings)
        _add(cuts, f"not_drawn_{kind}", len(pool) - len(taken))
        chosen.extend(taken)
    if not chosen:
        raise SetupError(
            f"arm '{arm}' has no rows to train on: {_count(usable)} usable rows by kind do not allow the shares "
            f"benign {settings.benign_share:.2f} and reasoning {settings.reasoning_share:.2f}; change assemble's shares"
        )
    place = {example.id: position for position, example in enumerate(usable)}
    return Assembled(examples=tuple(sorted(chosen, key=lambda example: place[example.id])), cuts=cuts)


def available_rows(outcomes: Sequence[Outcome], *, arm: str) -> dict[str, int]:
    """Usable rows of an arm by kind: what `matched_rows` compares."""
    return _count(_usable(outcomes, arm=arm, row_of={})[0])


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


def _usable(
    outcomes: Sequence[Outcome], *, arm: str, row_of: Mapping[str, int]
) -> tuple[list[Example], dict[str, int]]:
    """Rows in canonical order without duplicates, and the counts of what is unfit for training."""
    cuts: dict[str, int] = {}
    rows: list[tuple[tuple[int, str, int, str], Example]] = []
    for outcome in outcomes:
        if outcome.state not in (OutcomeState.KEPT, OutcomeState.CORRECTED):
            continue
        assert outcome.final is not None, f"outcome {outcome.id} is {outcome.state} without a final verdict"
        trajectory = outcome.final.trajectory
        reason = _unfit(trajectory)
        if reason:
            _add(cuts, reason, 1)
            continue
        prompt = trajectory.prompt
        sample = outcome.unit.sample if outcome.unit.sample >= 0 else trajectory.sample
        key = (row_of.get(prompt.id, 0), prompt.id, sample, outcome.unit.variant)
        rows.append((key, _example(outcome, trajectory, arm=arm)))
    rows.sort(key=lambda row: (row[0], row[1].id))
    unique = {_text_digest(example): example for _, example in reversed(rows)}
    kept = [example for _, example in rows if unique[_text_digest(example)] is example]
    _add(cuts, "duplicate", len(rows) - len(kept))
    return kept, cuts


def _unfit(trajectory: Trajectory) -> str:
    """Why a trajectory cannot be a training row, or nothing."""
    if not trajectory.is_finished:
        return "unfinished"
    if not trajectory.answer.reveal().strip():
        return "no_answer"
    try:
        for text in (trajectory.prompt.text, trajectory.reasoning, trajectory.answer):
            str.encode(text, "utf-8")
    except UnicodeEncodeError:
        return "not_unicode"
    return ""


def _example(outcome: Outcome, trajectory: Trajectory, *, arm: str) -> Example:
    original = outcome.original.trajectory if outcome.original else None
    unit = outcome.unit
    return Example(
        id=make_id("example", trajectory.prompt.id, unit.sample, unit.variant, trajectory.reasoning, trajectory.answer),
        unit=type(unit)(arm=arm, prompt=unit.prompt, sample=unit.sample, variant=unit.variant),
        prompt=trajectory.prompt,
        reasoning=trajectory.reasoning,
        answer=trajectory.answer,
        state=outcome.state,
        strategy=trajectory.intervention.strategy if trajectory.intervention else "",
        **({"original_reasoning": original.reasoning, "original_answer": original.answer} if original else {}),
    )


def _choose(pool: list[Example], number: int, *, kind: str, settings: AssembleSettings) -> list[Example]:
    shuffled = sorted(pool, key=lambda example: draw_key(example, settings.seed))
    if kind == HARMFUL and settings.subset == "selected":
        return spread_over_tags(shuffled, number, keys=settings.spread)
    return shuffled[:number]


def draw_key(example: Example, seed: int) -> str:
    """Where an example stands in the seeded order: a hash of what the arms share, never of an arm's own text."""
    unit = example.unit
    return hashlib.sha256(f"{seed}:{example.prompt.id}:{unit.sample}:{unit.variant}".encode()).hexdigest()


def _text_digest(example: Example) -> str:
    return digest_of([example.prompt.text, example.reasoning, example.answer])


def _count(examples: Sequence[Example]) -> dict[str, int]:
    counts = {HARMFUL: 0, BENIGN: 0, REASONING: 0}
    for example in examples:
        counts[KIND_OF[example.prompt.category]] += 1
    return counts


def _add(cuts: dict[str, int], reason: str, number: int) -> None:
    if number:
        cuts[reason] = cuts.get(reason, 0) + number
