"""URLs as errors and logs may show them.

A mistake in a URL is often that a password stands where none belongs, so what is shown is what can hold none.
"""

from __future__ import annotations

import re


def shown(url: str) -> str:
    """`url` without whatever may be secret: all between the scheme and the last `@`, and the values of options."""
    before, at, rest = url.rpartition("@")
    scheme, colon, _ = before.partition(":")
    hidden = f"{scheme + colon if colon else ''}***@{rest}" if at else url
    return re.sub(r"=[^&]*", "=***", hidden)
