"""Near duplicates: an index of token lists that finds an earlier one that says almost the same.

Used by the filters `near_duplicates` and `decontamination`. Two texts are near when the Jaccard similarity of their
word 3-grams reaches the threshold *and* hardly any word is in one of them only: by default one, so that a word may be
added but none replaced. The second condition matters for attack prompts: a long wrapper around another request,
another number or another object is a different prompt, however much text they share. Inflections of a word count as
the same.

MinHash signatures in banded hash tables (locality-sensitive hashing; Broder 1997, Indyk and Motwani 1998) propose
candidates, exact sets verify them. Invariants: deterministic; about 3 KB of memory per text; a crowd of similar
texts cannot make a look-up slow, since tables and candidates are capped (what is missed then is kept, never refused).
"""

from __future__ import annotations

import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from zlib import crc32

from tracemend.ingestion.words import ngrams
from tracemend.kit.errors import SetupError

_NUM_PERMUTATIONS = 64
_SHINGLE_WORDS = 3
_MIN_RECALL = 0.98
"""Probability that a pair exactly at the threshold shares a band; above it, it is higher."""
_MAX_BUCKET = 64
_MAX_CANDIDATES = 8
_SPOOL_BYTES = 64 << 20
_MIN_STEM_CHARS = 3
_ENDINGS = frozenset(("", "s", "es", "d", "e", "ed", "ing"))


def _anything(key: int) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What `find` found."""

    key: int
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A text ready to be looked up or added."""

    words: list[str]
    distinct: frozenset[str]
    grams: frozenset[tuple[str, ...]]
    bands: tuple[bytes, ...]
    """One table key per band: the band's number and its part of the signature."""


class NearIndex:
    """Texts by caller's key. `threshold` is the least Jaccard similarity of word 3-grams, `max_changed_words` how many
    distinct words may be in one of two texts only."""

    def __init__(self, *, threshold: float, max_changed_words: int) -> None:
        import datasketch

        if not 0.3 <= threshold <= 1 or max_changed_words < 0:
            raise SetupError(
                "near duplicates: need `threshold` between 0.3 and 1 and `max_changed_words` of at least 0, "
                f"not {threshold} and {max_changed_words}"
            )
        self._threshold = threshold
        self._max_changed = max_changed_words
        self._rows_per_band = _rows_per_band(threshold)
        self._empty = datasketch.MinHash(num_perm=_NUM_PERMUTATIONS, seed=1, hashfunc=_identity)
        self._tables: dict[bytes, int | list[int]] = {}
        self._texts = _Texts()
        self._keys: list[int] = []

    def probe(self, words: list[str]) -> Probe:
        """Sets and signature of a text."""
        grams = frozenset(ngrams(words, _SHINGLE_WORDS))
        return Probe(words=words, distinct=frozenset(words), grams=grams, bands=self._bands(grams))

    def add(self, key: int, probe: Probe) -> None:
        """Remember a text under `key`."""
        if not probe.grams:
            return
        slot = len(self._keys)
        self._keys.append(key)
        self._texts.append(probe.words)
        for band in probe.bands:
            held = self._tables.setdefault(band, slot)
            if isinstance(held, list):
                if len(held) < _MAX_BUCKET:
                    held.append(slot)
            elif held != slot:
                self._tables[band] = [held, slot]

    def find(self, probe: Probe, *, accept: Callable[[int], bool] = _anything) -> Match | None:
        """The most similar earlier text that is near, the earliest of equals; None if there is none.

        `accept` says of a key whether it may match at all.
        """
        best: Match | None = None
        for slot in self._candidates(probe):
            similarity = self._similarity(probe, self._texts[slot])
            if similarity > (best.similarity if best else 0.0) and accept(self._keys[slot]):
                best = Match(key=self._keys[slot], similarity=similarity)
        return best

    def _similarity(self, probe: Probe, other: list[str]) -> float:
        """Jaccard similarity of the 3-grams, 0 if the two are not near. The cheap bound comes first."""
        left, right = probe.distinct.difference(other), set(other) - probe.distinct
        if _num_unmatchable(left, right) + _num_unmatchable(right, left) > self._max_changed:
            return 0.0
        grams = set(ngrams(other, _SHINGLE_WORDS))
        shared = len(probe.grams & grams)
        similarity = shared / (len(probe.grams) + len(grams) - shared)
        if similarity < self._threshold:
            return 0.0
        return similarity if num_changed(probe.words, other) <= self._max_changed else 0.0

    def _candidates(self, probe: Probe) -> list[int]:
        """Slots that share a band, those that share most first, at most `_MAX_CANDIDATES`."""
        shared: Counter[int] = Counter()
        for band in probe.bands:
            held = self._tables.get(band)
            if held is not None:
                shared.update((held,) if isinstance(held, int) else held)
        return sorted(shared, key=lambda slot: (-shared[slot], slot))[:_MAX_CANDIDATES]

    def _bands(self, grams: frozenset[tuple[str, ...]]) -> tuple[bytes, ...]:
        sketch = self._empty.copy()
        sketch.update_batch(crc32(" ".join(gram).encode("utf-8", "surrogatepass")) for gram in grams)
        raw = sketch.hashvalues.astype("<u4").tobytes()
        size = 4 * self._rows_per_band
        return tuple(bytes((band,)) + raw[band * size : (band + 1) * size] for band in range(len(raw) // size))


def num_changed(one: list[str], other: list[str]) -> int:
    """How many words only one of two texts holds, repeats counted: 1 for an added word, 2 for a replaced one. Forms of
    one word (make, makes, making) count as the same."""
    left, right = Counter(one), Counter(other)
    left, right = left - right, right - left
    num_matched = 0
    for word in sorted(left):
        form = next((known for known in sorted(right) if _are_forms(word, known)), None)
        if form is not None:
            shared = min(left[word], right[form])
            num_matched += shared
            right -= Counter({form: shared})
    return left.total() + right.total() - num_matched


def _num_unmatchable(words: Iterable[str], others: Iterable[str]) -> int:
    """How many of `words` share their stem's first characters with none of `others`: a lower bound, in linear time."""
    stems = {word[:_MIN_STEM_CHARS] for word in others}
    return sum(word[:_MIN_STEM_CHARS] not in stems for word in words)


def _are_forms(word: str, other: str) -> bool:
    """Whether the two differ in an English inflection only; misspellings are left alone, as they may be other names."""
    pairs = enumerate(zip(word, other, strict=False))
    stem = next((place for place, (one, two) in pairs if one != two), min(len(word), len(other)))
    return stem >= _MIN_STEM_CHARS and word[stem:] in _ENDINGS and other[stem:] in _ENDINGS


class _Texts:
    """Token lists by position, in memory up to a bound and in an unnamed temporary file beyond it."""

    def __init__(self) -> None:
        # Unnamed, and gone with this object.
        self._file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        self._ends = array("Q", [0])

    def append(self, words: list[str]) -> None:
        self._file.seek(self._ends[-1])
        self._ends.append(self._ends[-1] + self._file.write(" ".join(words).encode("utf-8", "surrogatepass")))

    def __getitem__(self, slot: int) -> list[str]:
        start, end = self._ends[slot], self._ends[slot + 1]
        self._file.seek(start)
        return self._file.read(end - start).decode("utf-8", "surrogatepass").split(" ")


def _rows_per_band(threshold: float) -> int:
    """The longest band, hence fewest false candidates, whose recall at the threshold is at least `_MIN_RECALL`."""

    def recall(rows: int) -> float:
        return 1 - (1 - threshold**rows) ** (_NUM_PERMUTATIONS // rows)

    return max((rows for rows in range(1, _NUM_PERMUTATIONS + 1) if recall(rows) >= _MIN_RECALL), default=1)


def _identity(value: int) -> int:
    return value
