"""What the API has promised stays: every message, field, enum value and method of the kept descriptors is still there,
with the same number, type and name, so that older clients and stored records go on working.

What was added is promised from the next release on: `python -m tests.unit.wire.test_wire_compatibility` keeps it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet

import tracemend.api

KEPT = Path(__file__).parents[2] / "golden" / "v1" / "api.binpb"


def current() -> FileDescriptorSet:
    """All files of the API, as the generated code has them."""
    modules = [found.name for found in pkgutil.walk_packages(tracemend.api.__path__, "tracemend.api.")]
    found = FileDescriptorSet()
    for name in sorted(name for name in modules if name.endswith("_pb2")):
        importlib.import_module(name).DESCRIPTOR.CopyToProto(found.file.add())
    return found


def promises(files: FileDescriptorSet) -> dict[str, str]:
    """What others rely on: the place of each thing to what it is."""
    return {place: what for file in files.file for place, what in _of_file(file)}


def _of_file(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for message in file.message_type:
        yield from _of_message(message, file.package)
    for enum in file.enum_type:
        yield from _of_enum(enum, file.package)
    for service in file.service:
        for method in service.method:
            streams = f"{method.client_streaming} {method.server_streaming}"
            yield f"{file.package}.{service.name}/{method.name}", f"{method.input_type} {method.output_type} {streams}"


def _of_message(message: DescriptorProto, inside: str) -> Iterator[tuple[str, str]]:
    name = f"{inside}.{message.name}"
    yield name, "message"
    for field in message.field:
        union = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        yield f"{name}#{field.number}", f"{field.name} {field.label} {field.type} {field.type_name} {union}"
    for nested in message.nested_type:
        yield from _of_message(nested, name)
    for enum in message.enum_type:
        yield from _of_enum(enum, name)


def _of_enum(enum: EnumDescriptorProto, inside: str) -> Iterator[tuple[str, str]]:
    for value in enum.value:
        yield f"{inside}.{enum.name}#{value.number}", value.name


def broken(kept: FileDescriptorSet, now: FileDescriptorSet) -> list[str]:
    """The promises of `kept` that `now` does not hold."""
    held = promises(now)
    return [place for place, what in promises(kept).items() if held.get(place) != what]


def kept() -> FileDescriptorSet:
    return FileDescriptorSet.FromString(KEPT.read_bytes())


def test_nothing_that_was_promised_has_changed() -> None:
    assert broken(kept(), current()) == []


def test_a_renamed_field_a_changed_type_and_a_lost_method_are_found() -> None:
    changed = current()
    file = next(file for file in changed.file if file.name.endswith("ingestion_service.proto"))
    run = next(message for message in file.message_type if message.name == "GetRunRequest")
    run.field[0].name = "id"
    page = next(message for message in file.message_type if message.name == "ListRunsRequest")
    page.field[0].type = page.field[0].TYPE_INT64
    method = file.service[0].method.pop().name
    assert sorted(broken(kept(), changed)) == [
        "tracemend.api.ingestion.v1.GetRunRequest#1",
        f"tracemend.api.ingestion.v1.IngestionService/{method}",
        "tracemend.api.ingestion.v1.ListRunsRequest#1",
    ]


if __name__ == "__main__":
    KEPT.write_bytes(current().SerializeToString(deterministic=True))
