"""Measures a detector against labelled cue positions: exact sentence, one off, and whether there is a cue at all.

Called by `tracemend judge cues`. What the detector could not tell is counted, left out of the figures on decided rows,
and an error in `agreement_of_all`. Labels number sentences as `traces.segmentation` cuts them, from 1; 0 stands for no
cue.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracemend.judge.calibrate import Estimate, wilson
from tracemend.judge.concurrently import all_of
from tracemend.judge.cues import CANNOT_TELL, FIRST_STEP, NO_CUE
from tracemend.judge.labels import rows_of, text_of
from tracemend.kit.errors import SetupError
from tracemend.kit.ids import make_id
from tracemend.kit.ports import CueFinder
from tracemend.records import Category, Cue, Prompt
from tracemend.redaction import Text
from tracemend.traces.segmentation import segment

_COLUMNS = ("prompt", "reasoning", "step")
_NUMBER = re.compile(r"\d{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledTrace:
    """A reasoning with the sentence that a human calls its first compliance cue."""

    prompt: Prompt
    reasoning: Text
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CueCalibration:
    """What a detector is worth on labelled traces; shares with Wilson's 95 % intervals, None without rows."""

    num_rows: int
    num_unknown: int
    unknown_labels: dict[str, int]
    """Why the detector could not tell, by its first label."""
    agreement: Estimate | None
    """Decided rows with the very step of the label, no cue included."""
    agreement_of_all: Estimate | None
    """The same over all rows: could not tell is an error."""
    within_one: Estimate | None
    """Of the rows in which both see a cue, those at most one sentence apart."""
    found: Estimate | None
    """Of the decided rows that are labelled with a cue, those in which the detector sees one (sensitivity)."""
    no_cue: Estimate | None
    """Of the decided rows that are labelled without a cue, those in which the detector sees none (specificity)."""


def read_cue_labels(path: Path, *, columns: Mapping[str, str] | None = None) -> list[LabelledTrace]:
    """The rows of a `.jsonl` or `.csv` file with prompt, reasoning and step, in file order. `SetupError` names file,
    line and remedy, and no text."""
    names = {name: name for name in _COLUMNS} | dict(columns or {})
    if unknown := sorted(names.keys() - {*_COLUMNS}):
        raise SetupError(f"columns maps {', '.join(unknown)}; it may map {', '.join(_COLUMNS)}")
    traces = [_trace(fields, where, names) for where, fields in rows_of(path)]
    if not traces:
        raise SetupError(f"{path} holds no labelled rows")
    return traces


async def calibrate_cues(
    detector: CueFinder, traces: Sequence[LabelledTrace], *, concurrency: int = 64
) -> CueCalibration:
    """Ask `detector` about every trace and compare. Raises `Retry` where the detector's model asks for patience."""
    slots = asyncio.Semaphore(concurrency)

    async def asked(trace: LabelledTrace) -> Cue:
        async with slots:
            return await detector.find(trace.prompt, trace.reasoning)

    cues = await all_of(asked(trace) for trace in traces)
    rows = [(trace.step, cue.step) for trace, cue in zip(traces, cues, strict=True)]
    decided = [(label, step) for label, step in rows if step != CANNOT_TELL]
    both = [(label, step) for label, step in decided if label != NO_CUE and step != NO_CUE]
    with_cue = [step for label, step in decided if label != NO_CUE]
    without = [step for label, step in decided if label == NO_CUE]
    num_equal = sum(label == step for label, step in decided)
    reasons = Counter((cue.labels or ("unknown",))[0] for cue in cues if cue.step == CANNOT_TELL)
    return CueCalibration(
        num_rows=len(rows),
        num_unknown=len(rows) - len(decided),
        unknown_labels=dict(reasons),
        agreement=wilson(num_equal, len(decided)),
        agreement_of_all=wilson(num_equal, len(rows)),
        within_one=wilson(sum(abs(label - step) <= 1 for label, step in both), len(both)),
        found=wilson(sum(step != NO_CUE for step in with_cue), len(with_cue)),
        no_cue=wilson(sum(step == NO_CUE for step in without), len(without)),
    )


def _trace(fields: Mapping[str, object], where: str, names: Mapping[str, str]) -> LabelledTrace:
    if missing := [names[name] for name in _COLUMNS if fields.get(names[name]) is None]:
        has = ", ".join(sorted(str(name) for name in fields))
        raise SetupError(f"{where}: no column {', '.join(missing)}; it has {has}; map the names with `--column`")
    asked, reasoning = (text_of(fields[names[name]], where, names[name]) for name in ("prompt", "reasoning"))
    num_steps = len(segment(reasoning))
    step = fields[names["step"]]
    number = int(step) if isinstance(step, str) and _NUMBER.fullmatch(step.strip()) else step
    if type(number) is not int or not (number == NO_CUE or FIRST_STEP <= number <= num_steps):
        raise SetupError(
            f"{where}: column {names['step']} is the number of a sentence, {FIRST_STEP} to {num_steps} in this "
            f"reasoning, or {NO_CUE} for no cue"
        )
    prompt = Prompt(id=make_id("prompt", asked), text=asked, category=Category.HARMFUL)
    return LabelledTrace(prompt=prompt, reasoning=reasoning, step=number)
