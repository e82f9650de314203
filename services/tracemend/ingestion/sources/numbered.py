"""The `numbered` source: made-up prompts that differ in their number alone, for load tests over scripted models."""

from __future__ import annotations

from collections.abc import Iterator

from tracemend.ingestion.rows import BadRow, Row, sources
from tracemend.records import Category
from tracemend.redaction import Text


@sources.register
def numbered(*, count: int, category: str = "harmful", start: int = 0) -> Iterator[Row | BadRow]:
    """`count` prompts of one category, numbered from `start`."""
    kind = Category(category)
    for number in range(start, start + count):
        yield Row(
            text=Text(f"Null prompt number {number}."),
            category=kind,
            source="numbered",
            licence="CC0-1.0",
            where=f"numbered:{number}",
        )
