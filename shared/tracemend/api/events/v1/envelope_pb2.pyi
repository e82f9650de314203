from tracemend.api.records.v1 import records_pb2 as _records_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Envelope(_message.Message):
    __slots__ = ("id", "type", "run", "plan", "epoch", "unit", "siblings", "payload")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    SIBLINGS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    id: str
    type: str
    run: str
    plan: str
    epoch: int
    unit: _records_pb2.Unit
    siblings: _containers.RepeatedScalarFieldContainer[str]
    payload: bytes
    def __init__(self, id: _Optional[str] = ..., type: _Optional[str] = ..., run: _Optional[str] = ..., plan: _Optional[str] = ..., epoch: _Optional[int] = ..., unit: _Optional[_Union[_records_pb2.Unit, _Mapping]] = ..., siblings: _Optional[_Iterable[str]] = ..., payload: _Optional[bytes] = ...) -> None: ...
