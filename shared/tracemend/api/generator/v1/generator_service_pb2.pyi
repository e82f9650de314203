from tracemend.api.records.v1 import records_pb2 as _records_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeModelRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: str
    def __init__(self, target: _Optional[str] = ...) -> None: ...

class DescribeModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("target", "identity", "engine", "reasoning_format", "capabilities")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    REASONING_FORMAT_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    target: str
    identity: str
    engine: str
    reasoning_format: str
    capabilities: Capabilities
    def __init__(self, target: _Optional[str] = ..., identity: _Optional[str] = ..., engine: _Optional[str] = ..., reasoning_format: _Optional[str] = ..., capabilities: _Optional[_Union[Capabilities, _Mapping]] = ...) -> None: ...

class Capabilities(_message.Message):
    __slots__ = ("token_ids", "logprobs", "attentions", "prefix_cache", "seeds", "max_model_tokens")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    ATTENTIONS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_CACHE_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    MAX_MODEL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    token_ids: bool
    logprobs: bool
    attentions: bool
    prefix_cache: bool
    seeds: bool
    max_model_tokens: int
    def __init__(self, token_ids: _Optional[bool] = ..., logprobs: _Optional[bool] = ..., attentions: _Optional[bool] = ..., prefix_cache: _Optional[bool] = ..., seeds: _Optional[bool] = ..., max_model_tokens: _Optional[int] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("prompt", "sampling", "num_samples", "model")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    NUM_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    prompt: _records_pb2.Prompt
    sampling: _records_pb2.Sampling
    num_samples: int
    model: str
    def __init__(self, prompt: _Optional[_Union[_records_pb2.Prompt, _Mapping]] = ..., sampling: _Optional[_Union[_records_pb2.Sampling, _Mapping]] = ..., num_samples: _Optional[int] = ..., model: _Optional[str] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("trajectories",)
    TRAJECTORIES_FIELD_NUMBER: _ClassVar[int]
    trajectories: _containers.RepeatedCompositeFieldContainer[_records_pb2.Trajectory]
    def __init__(self, trajectories: _Optional[_Iterable[_Union[_records_pb2.Trajectory, _Mapping]]] = ...) -> None: ...

class ContinueRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: _records_pb2.GenerationRequest
    def __init__(self, request: _Optional[_Union[_records_pb2.GenerationRequest, _Mapping]] = ...) -> None: ...

class ContinueResponse(_message.Message):
    __slots__ = ("trajectory",)
    TRAJECTORY_FIELD_NUMBER: _ClassVar[int]
    trajectory: _records_pb2.Trajectory
    def __init__(self, trajectory: _Optional[_Union[_records_pb2.Trajectory, _Mapping]] = ...) -> None: ...
