"""What `examples` and `pairs` have in common: which trajectories are fit to train on, in which order, without repeats.

Every outcome that could have been a row becomes one or is counted under a reason. The order is canonical (row of the
prompt, sample, variant), so that the same outcomes give the same rows in any order of arrival.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from tracemend.kit.ids import digest_of
from tracemend.records import Prompt, Trajectory, Unit


class TrainingRow(Protocol):
    """What selecting rows needs to know of one: `Example` or `Pair`."""

    @property
    def id(self) -> str: ...
    @property
    def unit(self) -> Unit: ...
    @property
    def prompt(self) -> Prompt: ...


R = TypeVar("R", bound=TrainingRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates(Generic[R]):
    """The rows that an arm could train on, in canonical order, and why others are none."""

    rows: tuple[R, ...]
    cuts: dict[str, int] = field(default_factory=dict)
    """Reason to the number of usable outcomes that became no row: `duplicate`, `unfinished`, …"""


class Collector(Generic[R]):
    """Collects candidates one by one."""

    def __init__(self, *, row_of: Mapping[str, int]) -> None:
        """`row_of`: prompt id to row number as admitted, which orders the rows; none orders by prompt id."""
        self._row_of = row_of
        self._found: list[tuple[tuple[int, str, int, str, str], str, R]] = []
        self._cuts: dict[str, int] = {}

    def cut(self, reason: str) -> None:
        """Count an outcome that gives no row."""
        self._cuts[reason] = self._cuts.get(reason, 0) + 1

    def add(self, row: R, taught: Trajectory) -> None:
        """A row that teaches to write `taught`; of those that teach the same, the first in order stays."""
        sample = row.unit.sample if row.unit.sample >= 0 else taught.sample
        place = (self._row_of.get(row.prompt.id, 0), row.prompt.id, sample, row.unit.variant, row.id)
        self._found.append((place, digest_of([taught.prompt.text, taught.reasoning, taught.answer]), row))

    def candidates(self) -> Candidates[R]:
        """What was collected, in order and without duplicates."""
        rows: dict[str, R] = {}
        for _, digest, row in sorted(self._found, key=lambda found: found[0]):
            rows.setdefault(digest, row)
        num_repeated = len(self._found) - len(rows)
        cuts = {**self._cuts, "duplicate": num_repeated} if num_repeated else dict(self._cuts)
        return Candidates(rows=tuple(rows.values()), cuts=cuts)


def unfit(trajectory: Trajectory) -> str:
    """Why a trajectory cannot be taught, as a reason code, or nothing."""
    if not trajectory.is_finished:
        return "unfinished"
    if not trajectory.answer.reveal().strip():
        return "no_answer"
    return "" if is_unicode(trajectory) else "not_unicode"


def is_unicode(trajectory: Trajectory) -> bool:
    """Whether files can hold its texts."""
    try:
        for text in (trajectory.prompt.text, trajectory.reasoning, trajectory.answer):
            str.encode(text, "utf-8")
    except UnicodeEncodeError:
        return False
    return True
