"""Filter `length`: keeps out prompts of too few or too many words; off unless named."""

from __future__ import annotations

from tracemend.ingestion.filtering import Benchmarks, Candidate, Refusal, filters
from tracemend.kit.errors import SetupError


@filters.register
class Length:
    """Counts tokens as the other filters see them: words, numbers, symbols, single characters of unspaced scripts."""

    def __init__(self, benchmarks: Benchmarks, *, min_words: int = 1, max_words: int = 100_000) -> None:
        if not 0 <= min_words <= max_words:
            raise SetupError(f"filter 'length': need 0 <= min_words <= max_words, not {min_words} and {max_words}")
        self._min, self._max = min_words, max_words

    def check(self, candidate: Candidate) -> Refusal | None:
        count = len(candidate.tokens)
        if self._min <= count <= self._max:
            return None
        side = "short" if count < self._min else "long"
        return Refusal(reason=f"too_{side}", detail=f"{count:,} words; allowed are {self._min:,} to {self._max:,}")

    def keep(self, candidate: Candidate) -> None:
        """Nothing to remember."""
