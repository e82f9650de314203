"""Records to rows: which column holds what.

Used by the sources. A file whose first record lacks a named column is a `SetupError` (the mapping is wrong); a later
record that lacks it is a bad row (the record is).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tracemend.ingestion.rows import BadRow, Row
from tracemend.kit.errors import SetupError
from tracemend.records import Category
from tracemend.redaction import Text

TEXT_COLUMNS = ("prompt", "text", "question", "instruction")
"""Tried in this order where `columns` does not name one."""
FIELDS = ("text", "category", "reference", "licence", "split")
"""Keys of `columns` with a meaning of their own; every other key is a tag."""
CATEGORIES = ", ".join(category.value for category in Category)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a file: named values, and where it stands."""

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What every row of a source has in common, and which columns the rest comes from."""

    source: str
    category: Category | None
    """None if each row says its own."""
    licence: str = ""
    split: str = "train"
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field or tag to column."""

    def rows(self, records: Iterable[Record | BadRow], *, path: object) -> Iterator[Row | BadRow]:
        """One row per record of one file; `SetupError` if the file has no records or lacks a column."""
        mapping: Mapping[str, str] | None = None
        seen = False
        for record in records:
            seen = True
            if isinstance(record, BadRow):
                yield record
                continue
            if mapping is None:
                mapping = resolve(self.columns, list(record.values), where=record.where)
            yield self._shallow_row(record, mapping)
        if not seen:
            raise SetupError(f"{path} holds no rows: remove it from `path` or fill it")

    def _shallow_row(self, record: Record, mapping: Mapping[str, str]) -> Row | BadRow:
        try:
            return self._row(record, mapping)
        except RecursionError:
            return self._bad(record, "too_deep", "lists lie in lists, too deep to be read as a tag")

    def _row(self, record: Record, mapping: Mapping[str, str]) -> Row | BadRow:
        values = {name: record.values.get(column) for name, column in mapping.items()}
        text, reference = values.get("text"), values.get("reference")
        if text is None:
            return self._bad(record, "missing_text", f"no value in column '{mapping['text']}'")
        if not isinstance(text, str):
            return self._bad(record, "not_text", f"column '{mapping['text']}' holds {type(text).__name__}, not text")
        category = self.category
        if "category" in mapping:
            category = _category(values["category"])
        if category is None:
            return self._bad(record, "bad_category", f"column '{mapping.get('category')}' must be one of {CATEGORIES}")
        tags = {name: _plain(value) for name, value in values.items() if name not in FIELDS and value is not None}
        return Row(
            text=Text(text),
            category=category,
            source=self.source,
            where=record.where,
            licence=_plain(values.get("licence")) or self.licence,
            split=_plain(values.get("split")) or self.split,
            tags=tags,
            reference=Text(reference if isinstance(reference, str) else _plain(reference)),
        )

    def _bad(self, record: Record, reason: str, detail: str) -> BadRow:
        return BadRow(where=record.where, source=self.source, reason=reason, detail=detail)


def columns_of(*, name: str, category: str, columns: Mapping[str, str] | None, licence: str, split: str) -> Columns:
    """The options that all file sources share, checked."""
    mapping = dict(columns or {})
    value = _category(category)
    if category and value is None:
        raise SetupError(f"unknown category '{category}'; known: {CATEGORIES}")
    if value is None and "category" not in mapping:
        raise SetupError(f"say what the prompts are for: `category:` one of {CATEGORIES}, or its column in `columns`")
    return Columns(source=name, category=value, licence=licence, split=split, columns=mapping)


def resolve(columns: Mapping[str, str], available: list[str], *, where: str) -> dict[str, str]:
    """`columns` with the text column found where it is not named; `SetupError` for a column that is not there."""
    mapping = dict(columns)
    if "text" not in mapping:
        known = next((name for name in TEXT_COLUMNS if name in available), None)
        if known is None:
            raise SetupError(f"{where}: which column holds the prompt? Set `columns: {{text: …}}`; {_there(available)}")
        mapping["text"] = known
    for column in mapping.values():
        if column not in available:
            near = difflib.get_close_matches(column, available, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise SetupError(f"{where}: no column '{column}'{hint}; {_there(available)}")
    return mapping


def _there(available: list[str]) -> str:
    shown = [_plain(name)[:40] for name in available[:30]]
    told = f"the columns are: {', '.join(shown) or 'none'}{', …' if len(available) > len(shown) else ''}"
    separator = next((sign for sign in ";\t|" if len(available) == 1 and sign in str(available[0])), "")
    return f"{told}; if {separator!r} separates them, set `delimiter`" if separator else told


def _category(value: object) -> Category | None:
    try:
        return Category(str(value).strip().lower())
    except ValueError:
        return None


def _plain(value: object) -> str:
    """A cell as text that every encoding takes: lists joined by commas, half surrogate pairs replaced."""
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    return "" if value is None else str(value).encode("utf-8", "replace").decode()
