"""Reads a judge's JSON reply strictly: one object, the expected fields, nothing that could be read two ways."""

from __future__ import annotations

import json
import re
from typing import Any

_FENCE = re.compile(r"\A```(?:json)?[ \t]*\n(?P<body>.*)\n```\Z", re.DOTALL)
_MAX_CHARS = 100_000


def json_reply(text: str, *, required: frozenset[str], optional: frozenset[str] = frozenset()) -> dict[str, Any] | None:
    """The one JSON object that the whole reply is (a code fence around it is allowed), or None.

    None also for repeated, missing and surplus keys: a reply that holds two answers has none.
    """
    stripped = text.strip()
    if len(stripped) > _MAX_CHARS:
        return None
    fenced = _FENCE.match(stripped)
    try:
        value = json.loads(fenced["body"] if fenced else stripped, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not required <= value.keys() <= required | optional:
        return None
    return value


def whole_number(value: Any, low: int, high: int) -> int | None:
    """`value` where it is an integer in `low..high`; booleans, fractions and digits in strings are none."""
    return value if type(value) is int and low <= value <= high else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands twice")
    return fields


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
