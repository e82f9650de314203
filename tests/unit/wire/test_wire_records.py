"""A record and its message cannot differ, and every record survives the wire unchanged."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.golden.samples import FOLDER, SAMPLES, record_types

from tracemend import records, topics
from tracemend.api.records.v1 import records_pb2
from tracemend.kit.errors import Reject
from tracemend.kit.ports import Context, Message
from tracemend.redaction import Text
from tracemend.wire import WireCodec

CODEC = WireCodec()
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False)
SCALARS = {str: WORDS, int: INTS, float: FLOATS, bool: st.booleans(), Text: WORDS.map(Text)}
KINDS = {str: "string", Text: "string", int: "int64", float: "double", bool: "bool"}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value that the annotation allows."""
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is types.UnionType:
        return st.none() | values(arguments[0])
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    return SCALARS[hint] if hint in SCALARS else any_record(hint)


def any_record(record: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(record)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(record)}
    return st.deferred(lambda: st.builds(record, **{name: values(hint) for name, hint in fields.items()}))


@pytest.mark.parametrize("record", record_types(), ids=lambda record: record.__name__)
def test_every_record_has_a_message_with_the_same_fields_in_the_same_order(record: type) -> None:
    message = records_pb2.DESCRIPTOR.message_types_by_name[record.__name__]
    assert [field.name for field in message.fields] == [field.name for field in dataclasses.fields(record)]


def test_every_message_and_enum_has_its_record() -> None:
    assert set(records_pb2.DESCRIPTOR.message_types_by_name) == {record.__name__ for record in record_types()}
    for name, descriptor in records_pb2.DESCRIPTOR.enum_types_by_name.items():
        prefix = "".join("_" + c if c.isupper() else c for c in name).strip("_").upper()
        members = [f"{prefix}_{member.name}" for member in getattr(records, name)]
        assert [value.name for value in descriptor.values] == [f"{prefix}_UNSPECIFIED", *members]


@pytest.mark.parametrize("record", record_types(), ids=lambda record: record.__name__)
def test_numbers_and_texts_have_the_widest_type_and_presence_where_the_default_is_not_zero(record: type) -> None:
    hints = typing.get_type_hints(record)
    message = records_pb2.DESCRIPTOR.message_types_by_name[record.__name__]
    for field in dataclasses.fields(record):
        kind = hints[field.name]
        if kind not in KINDS:
            continue
        described = message.fields_by_name[field.name]
        assert described.type == getattr(described, f"TYPE_{KINDS[kind].upper()}"), field.name
        needs_presence = field.default is not dataclasses.MISSING and field.default != kind()
        assert described.has_presence == needs_presence, field.name


@pytest.mark.parametrize("record", record_types(), ids=lambda record: record.__name__)
def test_any_record_comes_back_equal(record: type) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(any_record(record))
    def comes_back(original: Any) -> None:
        content = CODEC.encode(original)
        again = CODEC.decode(record, content)
        assert again == original
        assert CODEC.encode(again) == content

    comes_back()


def test_text_comes_back_as_text_that_prints_as_a_digest() -> None:
    (prompt,) = (sample for sample in SAMPLES if isinstance(sample, records.Prompt))
    again = CODEC.decode(records.Prompt, CODEC.encode(prompt))
    assert type(again.text) is Text
    assert again.text.reveal() == prompt.text.reveal()


def test_equal_dicts_have_equal_bytes_whatever_the_order_of_their_keys() -> None:
    there = records.Prompt(id="p", text=Text(""), category=records.Category.BENIGN, tags={"a": "1", "b": "2"})
    back = dataclasses.replace(there, tags=dict(reversed(there.tags.items())))
    assert CODEC.encode(there) == CODEC.encode(back)


@pytest.mark.parametrize("where", ["text", "id", "tags"])
def test_a_lone_surrogate_is_refused_and_not_shown(where: str) -> None:
    bad = "secret \ud800"
    fields: dict[str, Any] = {"id": "p", "text": Text(""), "category": records.Category.BENIGN, "tags": {}}
    fields[where] = {"key": bad} if where == "tags" else Text(bad)
    with pytest.raises(Reject) as caught:
        CODEC.encode(records.Prompt(**fields))
    assert caught.value.reason == "not_utf8"
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_fields_of_a_later_version_are_ignored() -> None:
    span = records.Span(start=1, end=2)
    assert CODEC.decode(records.Span, CODEC.encode(span) + b"\xfa\x7f\x03new") == span


def test_a_field_that_an_older_writer_did_not_know_takes_the_records_default() -> None:
    older = records_pb2.Judgement(part=records_pb2.PART_WHOLE, value=records_pb2.VALUE_SAFE, judge="j")
    assert CODEC.decode(records.Judgement, older.SerializeToString()).score == -1.0
    unit = CODEC.decode(records.Unit, records_pb2.Unit(arm="a").SerializeToString())
    assert unit == records.Unit(arm="a", prompt="", sample=-1)


def test_a_zero_is_not_taken_for_unset() -> None:
    unit = records.Unit(arm="a", prompt="p", sample=0)
    assert CODEC.decode(records.Unit, CODEC.encode(unit)) == unit


@pytest.mark.parametrize(
    ("record", "content", "reason"),
    [
        (records.Judgement, b"", "unset_enum"),
        (records.Judgement, b"\x08\x63\x10\x01", "unset_enum"),
        (records.Step, b"\x08\x01", "unset_field"),
        (records.Span, b"\xff", "malformed"),
        (records.Unit, b"\x0a\x02\xc3\x28", "malformed"),
    ],
    ids=["enum unset", "enum of a later version", "record missing", "torn", "not UTF-8"],
)
def test_bytes_that_hold_no_such_record_are_rejected(record: type, content: bytes, reason: str) -> None:
    with pytest.raises(Reject) as caught:
        CODEC.decode(record, content)
    assert caught.value.reason == reason


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_rejected_and_never_crash(content: bytes) -> None:
    for record in (records.Verdict, records.Prompt, records.DatasetManifest):
        try:
            CODEC.decode(record, content)
        except Reject:
            continue


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_bytes_of_the_first_version_are_still_read_and_written(sample: Any) -> None:
    kept = (FOLDER / f"{type(sample).__name__}.bin").read_bytes()
    assert CODEC.decode(type(sample), kept) == sample
    assert CODEC.encode(sample) == kept


def test_every_record_has_a_golden_sample() -> None:
    assert {type(sample) for sample in SAMPLES} == set(record_types())
    assert {path.stem for path in FOLDER.glob("*.bin")} == {record.__name__ for record in record_types()}


CONTEXTS = st.builds(
    Context,
    run=WORDS,
    plan=WORDS,
    epoch=INTS,
    unit=st.none() | any_record(records.Unit),
    siblings=st.lists(WORDS, max_size=3).map(tuple),
)


@pytest.mark.parametrize("topic", topics.ALL, ids=lambda topic: topic.name)
def test_a_message_on_any_topic_comes_back_with_its_context(topic: topics.Topic) -> None:
    (sample,) = (sample for sample in SAMPLES if type(sample) is topic.record)

    @settings(max_examples=20, deadline=None)
    @given(CONTEXTS)
    def comes_back(context: Context) -> None:
        message = Message(topic=topic, record=sample, context=context)
        assert CODEC.decode_message(CODEC.encode_message(message), topic) == message

    comes_back()


def test_a_message_of_another_type_is_rejected() -> None:
    (sample,) = (sample for sample in SAMPLES if isinstance(sample, records.Group))
    content = CODEC.encode_message(Message(topic=topics.GROUPS, record=sample, context=Context(run="r")))
    with pytest.raises(Reject, match="wrong_type"):
        CODEC.decode_message(content, topics.VERDICTS)
