"""Records and text as plain JSON values that any reader accepts.

Used by `report.build` on everything that enters `report.json`. Invariants: no NaN or infinity (they become null), no
lone surrogate (it becomes its escape, such as `\\\\ud800`), no redacted text (a report is where words are shown).
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any


def plain(value: Any) -> Any:
    """`value` made of dicts, lists, strings, finite numbers, booleans and None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, str):
        return str.__str__(value).encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {plain(key if isinstance(key, str) else str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    assert value is None or isinstance(value, (bool, int)), f"{type(value).__name__} has no place in a report"
    return value
