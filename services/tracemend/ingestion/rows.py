"""What a prompt source yields: rows as read, good and bad, before validation gives them ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from tracemend.kit.registry import Registry
from tracemend.records import Category
from tracemend.redaction import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One prompt as its source has it."""

    text: Text
    category: Category
    source: str
    """Name of the set that it comes from."""
    where: str
    """Position for messages: `file.csv:12`."""
    licence: str = ""
    split: str = "train"
    tags: dict[str, str] = field(default_factory=dict)
    reference: Text = Text("")


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that could not be read: kept aside with its reason, never dropped in silence."""

    where: str
    source: str
    reason: str
    """Short code that counts group by: `not_json`, `too_long`, `missing_text`, …"""
    detail: str
    """What is wrong and what to do about it, without the row's text."""


Source: TypeAlias = Callable[..., Iterator[Row | BadRow]]
"""A source plug-in: keyword options in, rows in file order out. A file that cannot be read at all is a `SetupError`."""

sources: Registry[Source] = Registry("prompt source", package="tracemend.ingestion.sources", group="tracemend.sources")
