"""Ingestion's work: rows as read → prompts of the run, every refused row kept aside with its reason.

Called by the embedded pipeline and by ingestion's faces, over the whole list in row order. Invariants: rows received =
admitted + refused; the same rows, settings and benchmarks give the same result; only digests and what the filters need
to compare stay in memory, never the admitted prompts.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tracemend.ingestion.filtering import Candidate, Filter, Refusal, filters
from tracemend.ingestion.rows import BadRow, Row, sources
from tracemend.ingestion.settings import IngestionSettings, PromptsSettings
from tracemend.kit.ids import canonical, make_id
from tracemend.records import Category, Prompt
from tracemend.redaction import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A row that the run will work on."""

    row: int
    """Counted from 1 over all sources."""
    prompt: Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A row that is kept aside."""

    row: int
    reason: str
    detail: str
    source: str
    where: str
    matched: str = ""
    """For duplicates and contamination: the earlier row (`row:17`) or the id of the benchmark prompt."""
    text: Text = Text("")
    """The row's text, where it could be read."""

    def __str__(self) -> str:
        """Where the row stands and what is wrong with it, without its text."""
        where = f"{self.where}: " if self.where else ""
        matched = f" (matches {self.matched})" if self.matched else ""
        return f"{where}{self.detail}{matched}"


@dataclass(slots=True)
class Counts:
    """How an intake stands."""

    num_rows: int = 0
    num_admitted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Rows by reason."""
    first: dict[str, str] = field(default_factory=dict)
    """Reason to where the first such row stands and what is wrong with it."""
    num_control_chars: int = 0
    """Admitted prompts that hold control characters other than tab and line ends; kept, as attacks use them."""

    @property
    def num_refused(self) -> int:
        return self.refused.total()

    def reasons(self, most: int) -> list[str]:
        """A line for each of the `most` frequent reasons: how many rows, and the first of them."""
        return [f"{number:,} {reason}, first {self.first[reason]}" for reason, number in self.refused.most_common(most)]


class Intake:
    """One pass over rows. Iterate it once; `counts` is right at every moment."""

    def __init__(self, rows: Iterable[Row | BadRow], *, max_chars: int, stages: Sequence[Filter]) -> None:
        self.counts = Counts()
        self._rows = rows
        self._max_chars = max_chars
        self._stages = stages
        self._occurrences: Counter[bytes] = Counter()

    def __iter__(self) -> Iterator[Admitted | Refused]:
        assert self.counts.num_rows == 0, "an intake is read once"
        for number, row in enumerate(self._rows, start=1):
            self.counts.num_rows = number
            item = self._pass(number, row)
            if isinstance(item, Refused):
                self.counts.refused[item.reason] += 1
                self.counts.first.setdefault(item.reason, str(item))
            else:
                self.counts.num_admitted += 1
            yield item

    def _pass(self, number: int, row: Row | BadRow) -> Admitted | Refused:
        if isinstance(row, BadRow):
            return Refused(row=number, reason=row.reason, detail=row.detail, source=row.source, where=row.where)
        candidate = Candidate(number=number, row=row)
        refusal = invalid(row, max_chars=self._max_chars) or next(
            filter(None, (stage.check(candidate) for stage in self._stages)), None
        )
        if refusal is not None:
            return _refused(number, row, refusal)
        for stage in self._stages:
            stage.keep(candidate)
        self.counts.num_control_chars += _CONTROL.search(row.text.reveal()) is not None
        return Admitted(row=number, prompt=self._prompt(row))

    def _prompt(self, row: Row) -> Prompt:
        content = [row.text, row.category, row.reference]
        digest = hashlib.sha256(canonical(content)).digest()[:16]
        occurrence = self._occurrences[digest]
        self._occurrences[digest] += 1
        return Prompt(
            id=make_id("prompt", *content, occurrence),
            text=row.text,
            category=row.category,
            source=row.source,
            licence=row.licence,
            split=row.split,
            tags=row.tags,
            reference=row.reference,
        )


def ingest(rows: Iterable[Row | BadRow], *, settings: IngestionSettings, benchmarks: Sequence[Prompt] = ()) -> Intake:
    """Validate and filter `rows` in order; iterate the result for one `Admitted` or `Refused` per row.

    `benchmarks` are the run's own evaluation prompts, which no admitted prompt may repeat.
    """
    stages = [filters.create(name, benchmarks, **options) for name, options in settings.active_filters().items()]
    return Intake(rows, max_chars=settings.max_chars, stages=stages)


def read(prompts: Iterable[PromptsSettings], *, first: int | None = None) -> Iterator[Row | BadRow]:
    """The rows of a run file's `prompts:` list, source after source, `first` of each where that is given. A source that
    cannot work is a `SetupError`, raised for all of them before the first row is read."""
    opened = [sources.create(item.source, **item.options) for item in prompts]
    return (row for source in opened for row in itertools.islice(source, first))


def invalid(row: Row, *, max_chars: int) -> Refusal | None:
    """What makes a row unfit whatever else is in the run, or None."""
    text = row.text.reveal()
    if not text.strip():
        return Refusal(reason="empty", detail="the text is empty or blank")
    if len(text) > max_chars:
        return Refusal(
            reason="too_long", detail=f"{len(text):,} characters; `max_chars` is {max_chars:,}: raise it or cut the row"
        )
    for name, content in (("text", text), ("reference", row.reference.reveal())):
        if "\0" in content:
            return Refusal(reason="nul", detail=f"NUL character at {content.index(chr(0))} of the {name}: remove it")
        if found := _SURROGATE.search(content):
            detail = f"half a surrogate pair at character {found.start()} of the {name}: write it as UTF-8 text"
            return Refusal(reason="bad_unicode", detail=detail)
    if row.category is Category.REASONING and not row.reference.strip():
        return Refusal(reason="missing_reference", detail="a reasoning task needs the expected answer in `reference`")
    return None


_CONTROL = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _refused(number: int, row: Row, refusal: Refusal) -> Refused:
    return Refused(
        row=number,
        reason=refusal.reason,
        detail=refusal.detail,
        source=row.source,
        where=row.where,
        matched=refusal.matched,
        text=row.text,
    )
