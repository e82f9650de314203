"""Choosing a small subset that is spread over what its rows are about. `assembly` calls it for `subset: selected`.

The rule is STAR-1's reduction (methods.md §4.5 [R]): delete, until enough are left, the row with the largest
(share of its source) × (sum of the shares of its categories), shares recomputed after every deletion. Here every tag is
a factor, and several labels in one tag (`a,b`) are summed, which gives STAR-1's rule where the tags are source and
category [X]. Shares all have the same denominator, so whole counts are compared and ties are exact.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence

from tracemend.records import Prompt
from tracemend.trainer.candidates import R

Facets = tuple[tuple[str, tuple[str, ...]], ...]
"""Per tag: its name and its labels."""


def spread_over_tags(rows: Sequence[R], number: int, *, keys: Sequence[str] = ()) -> list[R]:
    """`number` of `rows`, spread over their tags; of equal ones, those that come first stay.

    Args:
        rows: In the order that breaks ties (a seeded one).
        number: How many to keep; all of them where there are fewer.
        keys: Tags to spread over, `source` and `category` included; none for the source and every tag.
    """
    facets = [_facets(row.prompt, keys) for row in rows]
    counts = Counter((key, label) for facet in facets for key, labels in facet for label in labels)
    # Counts only fall, so a weight in the heap is an upper bound: a popped row goes back once if its weight has fallen.
    heap = [(-_weight(facet, counts), -index) for index, facet in enumerate(facets)]
    heapq.heapify(heap)
    while len(heap) > max(number, 0):
        negative_weight, negative_index = heapq.heappop(heap)
        facet = facets[-negative_index]
        weight = _weight(facet, counts)
        if weight < -negative_weight:
            heapq.heappush(heap, (-weight, negative_index))
            continue
        counts.subtract((key, label) for key, labels in facet for label in labels)
    return [rows[index] for index in sorted(-negative_index for _, negative_index in heap)]


def _facets(prompt: Prompt, keys: Sequence[str]) -> Facets:
    known = {**prompt.tags, "source": prompt.source}
    if "category" in keys:
        known.setdefault("category", prompt.category.value)
    return tuple(
        (key, tuple(label.strip() for label in known.get(key, "").split(","))) for key in sorted(keys or known)
    )


def _weight(row: Facets, counts: Counter[tuple[str, str]]) -> int:
    return math.prod(sum(counts[key, label] for label in labels) for key, labels in row)
