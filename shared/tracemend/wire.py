"""Records to bytes and back: copies between `tracemend.records` and their protobuf messages by field name.

Buses, stores and servicers call it through `kit.ports.Codec`; nothing else reads `tracemend.api`. What a field is
(text, enum, record, tuple, dict, perhaps none) is read from the record's annotations once per class, so a new field is
one line in the record and one in the proto. Invariants: equal records have equal bytes; fields that this version does
not know are ignored; a field that the writer did not set takes the record's default, and where there is none, or an
enum is unset or unknown, the record is refused (`Reject`), never guessed.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import types
import typing
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError, EncodeError

from tracemend.api.events.v1 import envelope_pb2
from tracemend.api.records.v1 import records_pb2
from tracemend.kit.errors import Reject
from tracemend.kit.ports import Context, Message
from tracemend.records import Unit
from tracemend.redaction import Text
from tracemend.topics import Topic

Convert = Callable[[Any], Any]


class WireCodec:
    """`kit.ports.Codec` over protobuf, and envelopes for whole messages. Stateless."""

    def encode(self, record: Any) -> bytes:
        """The record's bytes; `Reject("not_utf8")` where text holds a lone surrogate."""
        plan = _plan(type(record))
        return _serialize(plan.message, plan.write(record))

    def decode(self, record_type: type, content: bytes) -> Any:
        """The record that `content` holds; `Reject` (`malformed`, `unset_field`, `unset_enum`) if it holds none."""
        plan = _plan(record_type)
        return plan.read(_parse(plan.message, content))

    def encode_message(self, message: Message) -> bytes:
        """The envelope of `message`: what travels on its topic."""
        context, plan = message.context, _plan(type(message.record))
        fields = {
            "id": message.record.id,
            "type": plan.message.DESCRIPTOR.full_name,
            "run": context.run,
            "plan": context.plan,
            "epoch": context.epoch,
            "siblings": context.siblings,
            "payload": self.encode(message.record),
        }
        if context.unit is not None:
            fields["unit"] = _plan(Unit).write(context.unit)
        return _serialize(envelope_pb2.Envelope, fields)

    def decode_message(self, content: bytes, topic: Topic) -> Message:
        """The message in an envelope that arrived on `topic`; `Reject("wrong_type")` if the topic carries others."""
        envelope = _parse(envelope_pb2.Envelope, content)
        expected = _plan(topic.record).message.DESCRIPTOR.full_name
        if envelope.type != expected:
            raise Reject("wrong_type", f"{topic.name} carries {expected}, this is {envelope.type or 'unnamed'}")
        context = Context(
            run=envelope.run,
            plan=envelope.plan,
            epoch=envelope.epoch,
            unit=_plan(Unit).read(envelope.unit) if envelope.HasField("unit") else None,
            siblings=tuple(envelope.siblings),
        )
        return Message(topic=topic, record=self.decode(topic.record, envelope.payload), context=context)


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """One field: how its value is written (None: as it is) and read, and what stands in where it is unset."""

    name: str
    write: Convert | None
    read: Convert | None
    default: Convert | None
    """Called with the owner's name where the message tells unset apart (nested, `optional`); None where it does not."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """How one record class is copied."""

    record: type
    message: Any
    fields: tuple[_Field, ...]

    def write(self, record: Any) -> dict[str, Any]:
        """The message's constructor arguments; protobuf leaves fields that are None unset."""
        values = {}
        for field in self.fields:
            value = getattr(record, field.name)
            values[field.name] = value if field.write is None or value is None else field.write(value)
        return values

    def read(self, message: Any) -> Any:
        values = {}
        for field in self.fields:
            if field.default is not None and not message.HasField(field.name):
                values[field.name] = field.default(self.record.__name__)
                continue
            value = getattr(message, field.name)
            values[field.name] = value if field.read is None else field.read(value)
        return self.record(**values)


_plans: dict[type, _Plan] = {}


def _plan(record: type) -> _Plan:
    return _plans.get(record) or _plans.setdefault(record, _make_plan(record))


def _make_plan(record: type) -> _Plan:
    message = getattr(records_pb2, record.__name__)
    hints = typing.get_type_hints(record)
    fields = []
    for field in dataclasses.fields(record):
        write, read = _converters(hints[field.name])
        has_presence = message.DESCRIPTOR.fields_by_name[field.name].has_presence
        fields.append(_Field(field.name, write, read, _default(field) if has_presence else None))
    return _Plan(record, message, tuple(fields))


def _converters(hint: Any) -> tuple[Convert | None, Convert | None]:
    """How values annotated with `hint` are written and read."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return _converters(arguments[0])
    if typing.get_origin(hint) is tuple:
        write, read = _converters(arguments[0])
        if write is None or read is None:
            return None, tuple
        return (lambda values: [write(value) for value in values]), (lambda values: tuple(read(v) for v in values))
    if typing.get_origin(hint) is dict:
        return None, dict
    if hint is Text:
        return None, Text
    if issubclass(hint, enum.Enum):
        return _enum_converters(hint)
    if not dataclasses.is_dataclass(hint):
        return None, None
    nested: Any = hint
    return (lambda value: _plan(nested).write(value)), (lambda message: _plan(nested).read(message))


def _enum_converters(members: type[enum.Enum]) -> tuple[Convert, Convert]:
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", members.__name__).upper()
    numbers = {member: getattr(records_pb2, f"{prefix}_{member.name}") for member in members}
    known = {number: member for member, number in numbers.items()}

    def read(number: int) -> enum.Enum:
        try:
            return known[number]
        except KeyError:
            raise Reject("unset_enum", f"{members.__name__} {number}") from None

    return numbers.__getitem__, read


def _default(field: dataclasses.Field[Any]) -> Convert:
    if field.default is not dataclasses.MISSING:
        return lambda owner: field.default
    if field.default_factory is not dataclasses.MISSING:
        factory = field.default_factory
        return lambda owner: factory()

    def refuse(owner: str) -> Any:
        raise Reject("unset_field", f"{owner}.{field.name}")

    return refuse


def _serialize(message: Any, fields: dict[str, Any]) -> bytes:
    try:
        return bytes(message(**fields).SerializeToString(deterministic=True))
    except (UnicodeEncodeError, EncodeError):  # the cause is dropped: it carries the text
        raise Reject("not_utf8", f"{message.DESCRIPTOR.name} holds text that UTF-8 cannot write") from None


def _parse(message: Any, content: bytes) -> Any:
    try:
        return message.FromString(content)
    except DecodeError:
        raise Reject("malformed", f"{len(content)} bytes are no {message.DESCRIPTOR.name}") from None
