from tracemend.api.records.v1 import records_pb2 as _records_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeStrategiesRequest(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: str
    def __init__(self, plan: _Optional[str] = ...) -> None: ...

class DescribeStrategiesResponse(_message.Message):
    __slots__ = ("strategies",)
    STRATEGIES_FIELD_NUMBER: _ClassVar[int]
    strategies: _containers.RepeatedCompositeFieldContainer[Strategy]
    def __init__(self, strategies: _Optional[_Iterable[_Union[Strategy, _Mapping]]] = ...) -> None: ...

class Strategy(_message.Message):
    __slots__ = ("arm", "name", "teacher", "teacher_identity")
    ARM_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    TEACHER_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    arm: str
    name: str
    teacher: str
    teacher_identity: str
    def __init__(self, arm: _Optional[str] = ..., name: _Optional[str] = ..., teacher: _Optional[str] = ..., teacher_identity: _Optional[str] = ...) -> None: ...

class CorrectTrajectoryRequest(_message.Message):
    __slots__ = ("plan", "arm", "verdict", "variant", "attempt")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    plan: str
    arm: str
    verdict: _records_pb2.Verdict
    variant: str
    attempt: int
    def __init__(self, plan: _Optional[str] = ..., arm: _Optional[str] = ..., verdict: _Optional[_Union[_records_pb2.Verdict, _Mapping]] = ..., variant: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class CorrectTrajectoryResponse(_message.Message):
    __slots__ = ("rewritten", "continuation", "ending")
    REWRITTEN_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    rewritten: _records_pb2.Trajectory
    continuation: _records_pb2.GenerationRequest
    ending: Ending
    def __init__(self, rewritten: _Optional[_Union[_records_pb2.Trajectory, _Mapping]] = ..., continuation: _Optional[_Union[_records_pb2.GenerationRequest, _Mapping]] = ..., ending: _Optional[_Union[Ending, _Mapping]] = ...) -> None: ...

class Ending(_message.Message):
    __slots__ = ("state", "reason")
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    state: _records_pb2.OutcomeState
    reason: str
    def __init__(self, state: _Optional[_Union[_records_pb2.OutcomeState, str]] = ..., reason: _Optional[str] = ...) -> None: ...
