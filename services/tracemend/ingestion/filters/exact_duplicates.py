"""Filter `exact_duplicates`: the same text again, whatever its case, width or spacing."""

from __future__ import annotations

import hashlib

from tracemend.ingestion.filtering import Benchmarks, Candidate, Refusal, filters
from tracemend.records import Category


@filters.register
class ExactDuplicates:
    """Remembers a digest per admitted row. The first row wins; where the two disagree on the category, it is said."""

    def __init__(self, benchmarks: Benchmarks) -> None:
        self._seen: dict[bytes, tuple[int, Category]] = {}

    def check(self, candidate: Candidate) -> Refusal | None:
        if (found := self._seen.get(_digest(candidate))) is None:
            return None
        earlier, category = found
        detail = f"repeats row {earlier} (case, width and spacing aside)"
        if category is not candidate.row.category:
            detail += f"; that one is '{category.value}', this one '{candidate.row.category.value}'"
        return Refusal(reason="exact_duplicate", detail=detail, matched=f"row:{earlier}")

    def keep(self, candidate: Candidate) -> None:
        self._seen[_digest(candidate)] = (candidate.number, candidate.row.category)


def _digest(candidate: Candidate) -> bytes:
    return hashlib.sha256(candidate.normal.encode("utf-8", "surrogatepass")).digest()[:16]
