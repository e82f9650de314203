from tracemend.api.records.v1 import records_pb2 as _records_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TextDigest(_message.Message):
    __slots__ = ("digest", "num_chars")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NUM_CHARS_FIELD_NUMBER: _ClassVar[int]
    digest: str
    num_chars: int
    def __init__(self, digest: _Optional[str] = ..., num_chars: _Optional[int] = ...) -> None: ...

class PromptView(_message.Message):
    __slots__ = ("id", "text", "category", "source", "licence", "split", "tags", "reference")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    text: TextDigest
    category: _records_pb2.Category
    source: str
    licence: str
    split: str
    tags: _containers.ScalarMap[str, str]
    reference: TextDigest
    def __init__(self, id: _Optional[str] = ..., text: _Optional[_Union[TextDigest, _Mapping]] = ..., category: _Optional[_Union[_records_pb2.Category, str]] = ..., source: _Optional[str] = ..., licence: _Optional[str] = ..., split: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ..., reference: _Optional[_Union[TextDigest, _Mapping]] = ...) -> None: ...

class InterventionView(_message.Message):
    __slots__ = ("kind", "strategy", "producer", "cut_token", "attempt", "variant", "failure", "payload")
    KIND_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    CUT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    kind: str
    strategy: str
    producer: str
    cut_token: int
    attempt: int
    variant: str
    failure: str
    payload: TextDigest
    def __init__(self, kind: _Optional[str] = ..., strategy: _Optional[str] = ..., producer: _Optional[str] = ..., cut_token: _Optional[int] = ..., attempt: _Optional[int] = ..., variant: _Optional[str] = ..., failure: _Optional[str] = ..., payload: _Optional[_Union[TextDigest, _Mapping]] = ...) -> None: ...

class TrajectoryView(_message.Message):
    __slots__ = ("id", "request", "prompt", "sample", "model", "reasoning", "answer", "parse", "finish", "parent", "round", "intervention", "num_prompt_tokens", "num_new_tokens")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    PARSE_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    INTERVENTION_FIELD_NUMBER: _ClassVar[int]
    NUM_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    id: str
    request: str
    prompt: str
    sample: int
    model: str
    reasoning: TextDigest
    answer: TextDigest
    parse: _records_pb2.Parse
    finish: _records_pb2.Finish
    parent: str
    round: int
    intervention: InterventionView
    num_prompt_tokens: int
    num_new_tokens: int
    def __init__(self, id: _Optional[str] = ..., request: _Optional[str] = ..., prompt: _Optional[str] = ..., sample: _Optional[int] = ..., model: _Optional[str] = ..., reasoning: _Optional[_Union[TextDigest, _Mapping]] = ..., answer: _Optional[_Union[TextDigest, _Mapping]] = ..., parse: _Optional[_Union[_records_pb2.Parse, str]] = ..., finish: _Optional[_Union[_records_pb2.Finish, str]] = ..., parent: _Optional[str] = ..., round: _Optional[int] = ..., intervention: _Optional[_Union[InterventionView, _Mapping]] = ..., num_prompt_tokens: _Optional[int] = ..., num_new_tokens: _Optional[int] = ...) -> None: ...

class JudgementView(_message.Message):
    __slots__ = ("part", "value", "judge", "score", "labels")
    PART_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    JUDGE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    part: _records_pb2.Part
    value: _records_pb2.Value
    judge: str
    score: float
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, part: _Optional[_Union[_records_pb2.Part, str]] = ..., value: _Optional[_Union[_records_pb2.Value, str]] = ..., judge: _Optional[str] = ..., score: _Optional[float] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class CueView(_message.Message):
    __slots__ = ("detector", "step", "num_steps", "char", "token", "labels")
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    CHAR_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    detector: str
    step: int
    num_steps: int
    char: int
    token: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, detector: _Optional[str] = ..., step: _Optional[int] = ..., num_steps: _Optional[int] = ..., char: _Optional[int] = ..., token: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class VerdictView(_message.Message):
    __slots__ = ("id", "axis", "trajectory", "reasoning", "answer", "whole", "cue")
    ID_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    TRAJECTORY_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    CUE_FIELD_NUMBER: _ClassVar[int]
    id: str
    axis: _records_pb2.Axis
    trajectory: TrajectoryView
    reasoning: JudgementView
    answer: JudgementView
    whole: JudgementView
    cue: CueView
    def __init__(self, id: _Optional[str] = ..., axis: _Optional[_Union[_records_pb2.Axis, str]] = ..., trajectory: _Optional[_Union[TrajectoryView, _Mapping]] = ..., reasoning: _Optional[_Union[JudgementView, _Mapping]] = ..., answer: _Optional[_Union[JudgementView, _Mapping]] = ..., whole: _Optional[_Union[JudgementView, _Mapping]] = ..., cue: _Optional[_Union[CueView, _Mapping]] = ...) -> None: ...

class OutcomeView(_message.Message):
    __slots__ = ("unit", "epoch", "state", "reason", "id")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    unit: _records_pb2.Unit
    epoch: int
    state: _records_pb2.OutcomeState
    reason: str
    id: str
    def __init__(self, unit: _Optional[_Union[_records_pb2.Unit, _Mapping]] = ..., epoch: _Optional[int] = ..., state: _Optional[_Union[_records_pb2.OutcomeState, str]] = ..., reason: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...
