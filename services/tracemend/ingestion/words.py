"""Text to the forms in which duplicates are compared: a normalised string, tokens, n-grams.

Used by the filters. Invariants: nothing here depends on the process (no salted hashes), so the same rows give the same
result everywhere; symbols that carry meaning (`+`, `-`, brackets) are tokens, sentence punctuation is not, so that
`5 - 3` and `5 + 3` stay different while a full stop makes no difference.
"""

from __future__ import annotations

import re
import unicodedata

from tracemend.redaction import Text

# Scripts written without spaces give one token per character. Combining marks of Arabic and the Indic scripts are not
# `\w` to `re`, yet belong inside words.
_TOKEN = re.compile(
    r"""
    [\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]
    | \d+(?:[.,]\d+)*
    | (?:(?![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff])
        [\w\u0300-\u036f\u0610-\u061a\u064b-\u065f\u0900-\u0dff])+
    | [^\w\s.,;:!?"'`´‘’“”…]
    """,
    re.VERBOSE,
)


def normalised(text: Text) -> str:
    """NFKC, case-folded, whitespace collapsed: what exact duplicates are equal in."""
    return " ".join(unicodedata.normalize("NFKC", text.reveal()).casefold().split())


def tokens(normal: str) -> list[str]:
    """Words, numbers and meaningful symbols of a normalised text, in order."""
    return _TOKEN.findall(normal)


def ngrams(words: list[str], size: int) -> list[tuple[str, ...]]:
    """Every run of `size` tokens, in order; a text of fewer tokens is one shorter run, an empty one none."""
    if len(words) <= size:
        return [tuple(words)] if words else []
    return list(zip(*(words[start:] for start in range(size)), strict=False))
