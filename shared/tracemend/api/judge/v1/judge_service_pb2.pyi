from tracemend.api.records.v1 import records_pb2 as _records_pb2
from tracemend.api.views.v1 import views_pb2 as _views_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribePanelRequest(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: str
    def __init__(self, plan: _Optional[str] = ...) -> None: ...

class DescribePanelResponse(_message.Message):
    __slots__ = ("members",)
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[PanelMember]
    def __init__(self, members: _Optional[_Iterable[_Union[PanelMember, _Mapping]]] = ...) -> None: ...

class PanelMember(_message.Message):
    __slots__ = ("role", "name", "identity")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    role: str
    name: str
    identity: str
    def __init__(self, role: _Optional[str] = ..., name: _Optional[str] = ..., identity: _Optional[str] = ...) -> None: ...

class JudgeTrajectoriesRequest(_message.Message):
    __slots__ = ("plan", "trajectories")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    TRAJECTORIES_FIELD_NUMBER: _ClassVar[int]
    plan: str
    trajectories: _containers.RepeatedCompositeFieldContainer[_records_pb2.Trajectory]
    def __init__(self, plan: _Optional[str] = ..., trajectories: _Optional[_Iterable[_Union[_records_pb2.Trajectory, _Mapping]]] = ...) -> None: ...

class JudgeTrajectoriesResponse(_message.Message):
    __slots__ = ("verdicts",)
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedCompositeFieldContainer[_views_pb2.VerdictView]
    def __init__(self, verdicts: _Optional[_Iterable[_Union[_views_pb2.VerdictView, _Mapping]]] = ...) -> None: ...

class GradeTrajectoriesRequest(_message.Message):
    __slots__ = ("plan", "trajectories")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    TRAJECTORIES_FIELD_NUMBER: _ClassVar[int]
    plan: str
    trajectories: _containers.RepeatedCompositeFieldContainer[_records_pb2.Trajectory]
    def __init__(self, plan: _Optional[str] = ..., trajectories: _Optional[_Iterable[_Union[_records_pb2.Trajectory, _Mapping]]] = ...) -> None: ...

class GradeTrajectoriesResponse(_message.Message):
    __slots__ = ("verdicts",)
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedCompositeFieldContainer[_records_pb2.Verdict]
    def __init__(self, verdicts: _Optional[_Iterable[_Union[_records_pb2.Verdict, _Mapping]]] = ...) -> None: ...
