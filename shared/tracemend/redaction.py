"""Text that must not leak: model and prompt text that shows itself as a digest wherever it is printed.

Everything that a prompt or a model wrote travels as `Text`. Logs, tracebacks, assertion messages and `repr` of
records show `<text 3f2a9c1b 120 chars>`; whoever needs the words asks for them by `reveal()`, which is easy to find
in a review.
"""

from __future__ import annotations

import hashlib
from typing import Self


class Text(str):
    """A `str` whose `repr`, `str()` and f-string form is a digest; `reveal()` gives the plain string."""

    __slots__ = ()

    def __new__(cls, words: str = "") -> Self:
        # `str` would ask a `Text` for its `str()`, and keep the digest in place of the words.
        return super().__new__(cls, words.reveal() if isinstance(words, Text) else words)

    def reveal(self) -> str:
        """The words themselves, as a plain `str`."""
        return str.__str__(self)

    def label(self) -> str:
        """A stable, harmless name for this text: eight hex digits of its SHA-256 and its length."""
        digest = hashlib.sha256(str.encode(self, "utf-8", "surrogatepass")).hexdigest()[:8]
        return f"<text {digest} {len(self)} chars>"

    def __repr__(self) -> str:
        return self.label()

    def __str__(self) -> str:
        return self.label()

    def __format__(self, spec: str) -> str:
        return format(self.label(), spec)
