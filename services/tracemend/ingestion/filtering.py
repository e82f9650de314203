"""What a filter is: the port of the plug-ins in `ingestion/filters`, and what they look at.

Rows pass the filters in order; the first that objects decides. Only rows that pass all of them are kept in mind, so a
refused row never makes another one a duplicate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

from tracemend.ingestion.rows import Row
from tracemend.ingestion.words import normalised, tokens
from tracemend.kit.registry import Registry
from tracemend.records import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a row is kept out."""

    reason: str
    """Short code that counts group by: `exact_duplicate`, `contaminated`, …"""
    detail: str
    """What was found, without the row's text."""
    matched: str = ""
    """The row (`row:17`) or benchmark prompt (its id) that it repeats."""


class Candidate:
    """A valid row under scrutiny; what several filters need is computed once."""

    def __init__(self, *, number: int, row: Row) -> None:
        self.number = number
        self.row = row

    @cached_property
    def normal(self) -> str:
        """The normalised text."""
        return normalised(self.row.text)

    @cached_property
    def tokens(self) -> list[str]:
        """Tokens of the normalised text."""
        return tokens(self.normal)


class Filter(Protocol):
    """One filter over one intake; it may remember what it kept."""

    def check(self, candidate: Candidate) -> Refusal | None:
        """A reason to refuse the row, or None."""
        ...

    def keep(self, candidate: Candidate) -> None:
        """The row passed every filter and is admitted."""
        ...


FilterPlugin: TypeAlias = Callable[..., Filter]
"""A filter plug-in: `plugin(benchmarks, **options)`, where `benchmarks` are the run's own evaluation prompts."""

Benchmarks: TypeAlias = Sequence[Prompt]

filters: Registry[FilterPlugin] = Registry("filter", package="tracemend.ingestion.filters", group="tracemend.filters")
