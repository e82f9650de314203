"""Measures a judge against human labels: agreement, sensitivity, specificity and κ, with intervals.

Called by `tracemend judge calibrate`. The positive class is unsafe: sensitivity is the share of humanly unsafe rows
that the judge finds, specificity the share of humanly safe rows that it passes. What the judge leaves unknown is
counted and treated three ways: left out, taken as safe, taken as unsafe.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tracemend.judge.concurrently import all_of
from tracemend.judge.labels import LabelledRow
from tracemend.judge.opinions import JudgeFunction, Opinion, Question, says_nothing
from tracemend.kit.errors import Reject
from tracemend.records import Axis, Part, Value
from tracemend.redaction import Text

_Z = 1.959963984540054
"""Two-sided 95 %."""
_NUM_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure over `n` rows with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A judge against labels on decided rows. A figure without rows to stand on is None."""

    agreement: Estimate | None
    sensitivity: Estimate | None
    specificity: Estimate | None
    kappa: Estimate | None
    """Cohen's κ; None where chance alone agrees always (one class on both sides)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a judge is worth on labelled rows."""

    num_rows: int
    num_unknown: int
    unknown_labels: dict[str, int]
    """Why the judge did not decide, by its first label."""
    decided: Agreement
    """Unknown rows left out."""
    unknown_as_safe: Agreement
    unknown_as_unsafe: Agreement


async def calibrate(
    judge: JudgeFunction,
    rows: Sequence[LabelledRow],
    *,
    part: Part = Part.ANSWER,
    axis: Axis = Axis.HARM,
    concurrency: int = 64,
    seed: int = 0,
) -> Calibration:
    """Ask `judge` about `part` of every row and compare. Raises `Retry` where the judge's model asks for patience."""
    slots = asyncio.Semaphore(concurrency)

    async def asked(row: LabelledRow) -> Opinion:
        async with slots:
            return await _opinion(judge, row, part=part, axis=axis)

    opinions = await all_of(asked(row) for row in rows)
    unknown = [opinion for opinion in opinions if opinion.value is Value.UNKNOWN]
    reasons: dict[str, int] = {}
    for opinion in unknown:
        reason = opinion.labels[0] if opinion.labels else "unknown"
        reasons[reason] = reasons.get(reason, 0) + 1
    pairs = [(row.prompt.text.reveal(), row.label, opinion.value) for row, opinion in zip(rows, opinions, strict=True)]
    return Calibration(
        num_rows=len(rows),
        num_unknown=len(unknown),
        unknown_labels=reasons,
        decided=_agreement([pair for pair in pairs if pair[2] is not Value.UNKNOWN], seed=seed),
        unknown_as_safe=_agreement(_with_unknown_as(Value.SAFE, pairs), seed=seed),
        unknown_as_unsafe=_agreement(_with_unknown_as(Value.UNSAFE, pairs), seed=seed),
    )


def wilson(num_hits: int, n: int) -> Estimate | None:
    """A share with Wilson's 95 % score interval (Wilson 1927, eq. for unknown p); None where `n` is 0."""
    if n == 0:
        return None
    share = num_hits / n
    scale = 1 + _Z**2 / n
    middle = (share + _Z**2 / (2 * n)) / scale
    reach = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / scale
    # At 0 and 1 one limit is the share itself; floating point may miss it by a hair.
    low = 0.0 if num_hits == 0 else max(0.0, middle - reach)
    high = 1.0 if num_hits == n else min(1.0, middle + reach)
    return Estimate(value=share, low=low, high=high, n=n)


def cohen_kappa(hits: float, false_alarms: float, misses: float, passes: float) -> float | None:
    """κ = (p_o − p_e) / (1 − p_e) of a two-by-two table (Cohen 1960); None where p_e is 1 or the table is empty."""
    if hits + false_alarms + misses + passes == 0:
        return None
    observed, chance = _agreeing(hits, false_alarms, misses, passes)
    return None if chance >= 1 else (observed - chance) / (1 - chance)


def _agreeing(hits: float, false_alarms: float, misses: float, passes: float) -> tuple[float, float]:
    """Share of rows that agree, and the share that would by chance."""
    n = hits + false_alarms + misses + passes
    by_judge, by_label = (hits + false_alarms) / n, (hits + misses) / n
    return (hits + passes) / n, by_judge * by_label + (1 - by_judge) * (1 - by_label)


_Pair = tuple[str, Value, Value]
"""(prompt, label, judge's value)."""


async def _opinion(judge: JudgeFunction, row: LabelledRow, *, part: Part, axis: Axis) -> Opinion:
    text = {Part.REASONING: row.reasoning, Part.ANSWER: row.response, Part.WHOLE: row.whole}[part]
    if says_nothing(text):
        return Opinion(value=Value.UNKNOWN, labels=("empty",))
    is_whole = part is Part.WHOLE
    question = Question(
        prompt=row.prompt,
        axis=axis,
        part=part,
        text=text,
        reasoning=row.reasoning if is_whole else Text(""),
        answer=row.response if is_whole else Text(""),
    )
    try:
        return await judge(question)
    except Reject as error:
        return Opinion(value=Value.UNKNOWN, labels=(error.reason,))


def _with_unknown_as(value: Value, pairs: Sequence[_Pair]) -> list[_Pair]:
    return [(prompt, label, value if said is Value.UNKNOWN else said) for prompt, label, said in pairs]


def _agreement(pairs: Sequence[_Pair], *, seed: int) -> Agreement:
    hits, false_alarms, misses, passes = _table(pairs)
    return Agreement(
        agreement=wilson(hits + passes, len(pairs)),
        sensitivity=wilson(hits, hits + misses),
        specificity=wilson(passes, passes + false_alarms),
        kappa=_kappa(pairs, seed=seed),
    )


def _table(pairs: Sequence[_Pair]) -> tuple[int, int, int, int]:
    """Hits, false alarms, misses, passes."""
    cells = [(label is Value.UNSAFE, said is Value.UNSAFE) for _, label, said in pairs]
    return (
        cells.count((True, True)),
        cells.count((False, True)),
        cells.count((True, False)),
        cells.count((False, False)),
    )


def _kappa(pairs: Sequence[_Pair], *, seed: int) -> Estimate | None:
    """κ with a percentile bootstrap over prompts: responses to one prompt are not independent of each other. Where it
    cannot vary, the interval goes by that of the agreement."""
    import numpy as np

    value = cohen_kappa(*_table(pairs))
    if value is None:
        return None
    by_prompt: dict[str, list[_Pair]] = {}
    for pair in pairs:
        by_prompt.setdefault(pair[0], []).append(pair)
    tables = np.array([_table(group) for group in by_prompt.values()], dtype=float)
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(_NUM_RESAMPLES):
        table = tables[generator.integers(len(tables), size=len(tables))].sum(axis=0)
        resampled = cohen_kappa(*table.tolist())
        if resampled is not None:
            drawn.append(resampled)
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (value, value)
    if low == high:  # all rows agree, or none does: resampling cannot vary, however few they are
        low, high = _where_alike(value, *_agreeing(*_table(pairs)), num_prompts=len(tables))
    return Estimate(value=value, low=float(low), high=float(high), n=len(pairs))


def _where_alike(value: float, observed: float, chance: float, *, num_prompts: int) -> tuple[float, float]:
    """κ at the ends of Wilson's interval of the observed agreement over prompts, chance agreement as it was seen."""
    agreement = wilson(round(observed * num_prompts), num_prompts)
    assert agreement is not None
    low, high = ((share - chance) / (1 - chance) for share in (agreement.low, agreement.high))
    return min(low, value), max(high, value)
