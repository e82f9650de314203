"""Filter `decontamination`: no admitted prompt may repeat one that the run evaluates on.

Four rules, first hit wins: equal after normalisation; a short prompt held whole; shared word n-grams; near duplicate by
MinHash.

A benchmark prompt shorter than an n-gram has none of its own: a row that holds it whole is refused, if it has at least
`min_words` words (two words of a question stand in many harmless ones).

The n-gram rule refuses a row that holds at least the share `min_overlap` of the 8-grams that are a benchmark prompt's
own. Sequences, short prompts among them, that more than `max_sharing` benchmark prompts hold are wrapper ("you are an
actor in a play, …"), not content, and do not count. STAR-1 (section 4.2 [R]) refuses any shared 8-gram: `min_overlap:
0` and a `max_sharing` of the number of benchmark prompts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from tracemend.ingestion.filtering import Benchmarks, Candidate, Refusal, filters
from tracemend.ingestion.similar import NearIndex
from tracemend.ingestion.words import ngrams, normalised, tokens
from tracemend.kit.errors import SetupError


@filters.register
class Decontamination:
    """Holds the benchmark prompts' n-grams; remembers nothing of the rows."""

    def __init__(
        self,
        benchmarks: Benchmarks,
        *,
        ngram: int = 8,
        min_overlap: float = 0.25,
        max_sharing: int = 3,
        min_words: int = 3,
        threshold: float = 0.7,
    ) -> None:
        if min(ngram, max_sharing, min_words) < 1 or not 0 <= min_overlap <= 1:
            raise SetupError(
                "filter 'decontamination': need ngram, max_sharing and min_words of at least 1 and min_overlap between "
                f"0 and 1, not {ngram}, {max_sharing}, {min_words} and {min_overlap}"
            )
        self._ngram, self._min_overlap = ngram, min_overlap
        self._ids = [prompt.id for prompt in benchmarks]
        self._exact: dict[str, int] = {}
        self._near = NearIndex(threshold=threshold, max_changed_words=1)
        self._min_words = min_words
        self._owners: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        self._short: dict[tuple[str, ...], int] = {}
        for index, prompt in enumerate(benchmarks):
            self._add(index, normalised(prompt.text))
        self._drop_shared(benchmarks, max_sharing)
        self._owners = defaultdict(list, {g: held for g, held in self._owners.items() if len(held) <= max_sharing})
        self._num_own = Counter(index for held in self._owners.values() for index in held)

    def check(self, candidate: Candidate) -> Refusal | None:
        if not self._ids:
            return None
        if (index := self._exact.get(candidate.normal)) is not None:
            return self._refusal(index, "equals it, case and spacing aside")
        if (index := self._held(candidate.tokens)) is not None:
            return self._refusal(index, "holds it whole")
        if (overlap := self._overlap(candidate.tokens)) is not None:
            index, share = overlap
            return self._refusal(index, f"holds {share:.0%} of its {self._ngram}-word sequences")
        if (match := self._near.find(self._near.probe(candidate.tokens))) is not None:
            return self._refusal(match.key, f"nearly repeats it (similarity {match.similarity:.2f})")
        return None

    def keep(self, candidate: Candidate) -> None:
        """Nothing to remember: only benchmark prompts matter."""

    def _add(self, index: int, normal: str) -> None:
        if normal in self._exact:
            return
        words = tokens(normal)
        self._exact[normal] = index
        self._near.add(index, self._near.probe(words))
        for gram in self._long(words):
            self._owners[gram].append(index)
        if self._min_words <= len(words) < self._ngram:
            self._short.setdefault(tuple(words), index)

    def _drop_shared(self, benchmarks: Benchmarks, max_sharing: int) -> None:
        """Forget the short prompts that stand in more than `max_sharing` benchmark prompts, themselves included."""
        texts = {normalised(prompt.text) for prompt in benchmarks} if self._short else set()
        sharing = Counter(run for text in texts for run in set(self._runs(tokens(text))))
        self._short = {run: index for run, index in self._short.items() if sharing[run] <= max_sharing}

    def _runs(self, words: list[str]) -> Iterable[tuple[str, ...]]:
        """The short prompts that a text holds whole, longest first."""
        for size in sorted({len(short) for short in self._short}, reverse=True):
            if size <= len(words):
                yield from (run for run in ngrams(words, size) if run in self._short)

    def _held(self, words: list[str]) -> int | None:
        """The longest short benchmark prompt that a text holds whole."""
        return next((self._short[run] for run in self._runs(words)), None)

    def _long(self, words: list[str]) -> set[tuple[str, ...]]:
        """The n-grams of a text; none if it is shorter than one."""
        return set(ngrams(words, self._ngram)) if len(words) >= self._ngram else set()

    def _overlap(self, words: list[str]) -> tuple[int, float] | None:
        """(benchmark, share of its own n-grams) of the prompt most repeated, if that is enough to refuse."""
        shared = Counter(index for gram in self._long(words) for index in self._owners.get(gram, ()))
        if not shared:
            return None
        share, earliest = max((count / self._num_own[index], -index) for index, count in shared.items())
        return (-earliest, share) if share >= self._min_overlap else None

    def _refusal(self, index: int, how: str) -> Refusal:
        matched = self._ids[index]
        return Refusal(reason="contaminated", detail=f"repeats an evaluation prompt: the row {how}", matched=matched)
