"""Checks of request messages, put together from small rules: what is wrong with which field, and nothing else.

A servicer's registration maps a message's full name to a `Validator`; the validation interceptor runs it on every
request of that type, streamed ones too, and answers INVALID_ARGUMENT with all violations at once.

    check(required("parent"), matching("name", r"runs/[a-z0-9]+"), between("page_size", 0, 1000))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from tracemend.runtime.rpc.faults import Fault
from tracemend.runtime.rpc.names import parse_name

Validator: TypeAlias = Callable[[Any], Iterator[tuple[str, str]]]
"""From a message to (field path, what is wrong with it)."""

Validators: TypeAlias = Mapping[str, Validator]
"""By full name of the message type."""

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)


def check(*rules: Validator) -> Validator:
    """All of `rules`."""

    def run(message: Any) -> Iterator[tuple[str, str]]:
        for rule in rules:
            yield from rule(message)

    return run


def required(*fields: str) -> Validator:
    """The fields must be set: not empty, not zero, and present where they are messages."""

    def run(message: Any) -> Iterator[tuple[str, str]]:
        for field in fields:
            if not _is_set(message, field):
                yield field, "is required"

    return run


def named(field: str, pattern: str) -> Validator:
    """The field must be a resource name of the form `pattern`."""

    def run(message: Any) -> Iterator[tuple[str, str]]:
        try:
            parse_name(getattr(message, field), pattern, field=field)
        except Fault as fault:
            yield from fault.violations.items()

    return run


def matching(field: str, pattern: str) -> Validator:
    """The whole of the field must match the regular expression, where it is set."""
    compiled = re.compile(pattern, re.ASCII)

    def run(message: Any) -> Iterator[tuple[str, str]]:
        value = getattr(message, field)
        if value and not compiled.fullmatch(value):
            yield field, f"must match {pattern}"

    return run


def between(field: str, low: float, high: float) -> Validator:
    """The number must lie between `low` and `high`, both allowed; not a number is outside."""

    def run(message: Any) -> Iterator[tuple[str, str]]:
        if not low <= getattr(message, field) <= high:
            yield field, f"must be between {low:g} and {high:g}"

    return run


def at_most(field: str, number: int) -> Validator:
    """A repeated field has at most `number` entries; text and bytes are at most so long."""

    def run(message: Any) -> Iterator[tuple[str, str]]:
        found = len(getattr(message, field))
        if found > number:
            yield field, f"holds {found}, at most {number} are allowed"

    return run


def within(field: str, validator: Validator) -> Validator:
    """The message in `field`, or each message of a repeated field, must pass `validator`."""

    def run(message: Any) -> Iterator[tuple[str, str]]:
        value = getattr(message, field)
        if not message.DESCRIPTOR.fields_by_name[field].is_repeated:
            if message.HasField(field):
                yield from ((f"{field}.{path}", wrong) for path, wrong in validator(value))
            return
        for index, item in enumerate(value):
            yield from ((f"{field}[{index}].{path}", wrong) for path, wrong in validator(item))

    return run


def known_fields(field: str, message_type: Any) -> Validator:
    """A field mask may name top-level fields of `message_type` only (AIP-161)."""

    def run(message: Any) -> Iterator[tuple[str, str]]:
        unknown = set(getattr(message, field).paths) - set(message_type.DESCRIPTOR.fields_by_name)
        if unknown:
            yield field, f"names {len(unknown)} unknown fields"

    return run


def _is_set(message: Any, field: str) -> bool:
    descriptor = message.DESCRIPTOR.fields_by_name[field]
    return bool(message.HasField(field) if descriptor.has_presence else getattr(message, field))
