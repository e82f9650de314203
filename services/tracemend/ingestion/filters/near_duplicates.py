"""Filter `near_duplicates`: the same request in almost the same words, found by MinHash and then verified."""

from __future__ import annotations

import zlib

from tracemend.ingestion.filtering import Benchmarks, Candidate, Refusal, filters
from tracemend.ingestion.similar import NearIndex, Probe


@filters.register
class NearDuplicates:
    """Compares with every admitted row; `similar` says what counts as near. Tasks whose expected answers differ are
    different tasks."""

    def __init__(self, benchmarks: Benchmarks, *, threshold: float = 0.7, max_changed_words: int = 1) -> None:
        self._index = NearIndex(threshold=threshold, max_changed_words=max_changed_words)
        self._answers: dict[int, int] = {}
        self._probe: Probe | None = None

    def check(self, candidate: Candidate) -> Refusal | None:
        answer = _answer(candidate)
        self._probe = self._index.probe(candidate.tokens)
        match = self._index.find(self._probe, accept=lambda row: self._answers.get(row, 0) == answer)
        if match is None:
            return None
        detail = f"nearly repeats row {match.key} (similarity {match.similarity:.2f})"
        return Refusal(reason="near_duplicate", detail=detail, matched=f"row:{match.key}")

    def keep(self, candidate: Candidate) -> None:
        if answer := _answer(candidate):
            self._answers[candidate.number] = answer
        assert self._probe is not None, "a candidate is checked before it is kept"
        self._index.add(candidate.number, self._probe)


def _answer(candidate: Candidate) -> int:
    """A digest of the expected answer, 0 for none."""
    return zlib.crc32(candidate.row.reference.strip().encode("utf-8", "surrogatepass"))
