from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Category(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CATEGORY_UNSPECIFIED: _ClassVar[Category]
    CATEGORY_HARMFUL: _ClassVar[Category]
    CATEGORY_BENIGN: _ClassVar[Category]
    CATEGORY_LOOKALIKE: _ClassVar[Category]
    CATEGORY_REASONING: _ClassVar[Category]

class Axis(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AXIS_UNSPECIFIED: _ClassVar[Axis]
    AXIS_HARM: _ClassVar[Axis]
    AXIS_REFUSAL: _ClassVar[Axis]
    AXIS_CORRECTNESS: _ClassVar[Axis]

class Value(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VALUE_UNSPECIFIED: _ClassVar[Value]
    VALUE_SAFE: _ClassVar[Value]
    VALUE_UNSAFE: _ClassVar[Value]
    VALUE_UNKNOWN: _ClassVar[Value]

class Part(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PART_UNSPECIFIED: _ClassVar[Part]
    PART_REASONING: _ClassVar[Part]
    PART_ANSWER: _ClassVar[Part]
    PART_WHOLE: _ClassVar[Part]

class Finish(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_UNSPECIFIED: _ClassVar[Finish]
    FINISH_STOP: _ClassVar[Finish]
    FINISH_LENGTH: _ClassVar[Finish]
    FINISH_FILTERED: _ClassVar[Finish]
    FINISH_DEAD: _ClassVar[Finish]

class Parse(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PARSE_UNSPECIFIED: _ClassVar[Parse]
    PARSE_CLOSED: _ClassVar[Parse]
    PARSE_UNCLOSED: _ClassVar[Parse]
    PARSE_NO_TAGS: _ClassVar[Parse]

class OutcomeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_STATE_UNSPECIFIED: _ClassVar[OutcomeState]
    OUTCOME_STATE_KEPT: _ClassVar[OutcomeState]
    OUTCOME_STATE_CORRECTED: _ClassVar[OutcomeState]
    OUTCOME_STATE_NOT_SELECTED: _ClassVar[OutcomeState]
    OUTCOME_STATE_GAVE_UP: _ClassVar[OutcomeState]
    OUTCOME_STATE_REJECTED: _ClassVar[OutcomeState]
    OUTCOME_STATE_CANCELLED: _ClassVar[OutcomeState]
    OUTCOME_STATE_DEAD: _ClassVar[OutcomeState]
CATEGORY_UNSPECIFIED: Category
CATEGORY_HARMFUL: Category
CATEGORY_BENIGN: Category
CATEGORY_LOOKALIKE: Category
CATEGORY_REASONING: Category
AXIS_UNSPECIFIED: Axis
AXIS_HARM: Axis
AXIS_REFUSAL: Axis
AXIS_CORRECTNESS: Axis
VALUE_UNSPECIFIED: Value
VALUE_SAFE: Value
VALUE_UNSAFE: Value
VALUE_UNKNOWN: Value
PART_UNSPECIFIED: Part
PART_REASONING: Part
PART_ANSWER: Part
PART_WHOLE: Part
FINISH_UNSPECIFIED: Finish
FINISH_STOP: Finish
FINISH_LENGTH: Finish
FINISH_FILTERED: Finish
FINISH_DEAD: Finish
PARSE_UNSPECIFIED: Parse
PARSE_CLOSED: Parse
PARSE_UNCLOSED: Parse
PARSE_NO_TAGS: Parse
OUTCOME_STATE_UNSPECIFIED: OutcomeState
OUTCOME_STATE_KEPT: OutcomeState
OUTCOME_STATE_CORRECTED: OutcomeState
OUTCOME_STATE_NOT_SELECTED: OutcomeState
OUTCOME_STATE_GAVE_UP: OutcomeState
OUTCOME_STATE_REJECTED: OutcomeState
OUTCOME_STATE_CANCELLED: OutcomeState
OUTCOME_STATE_DEAD: OutcomeState

class Prompt(_message.Message):
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
    text: str
    category: Category
    source: str
    licence: str
    split: str
    tags: _containers.ScalarMap[str, str]
    reference: str
    def __init__(self, id: _Optional[str] = ..., text: _Optional[str] = ..., category: _Optional[_Union[Category, str]] = ..., source: _Optional[str] = ..., licence: _Optional[str] = ..., split: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ..., reference: _Optional[str] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    MAX_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    max_new_tokens: int
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., repetition_penalty: _Optional[float] = ..., max_new_tokens: _Optional[int] = ...) -> None: ...

class GenerationRequest(_message.Message):
    __slots__ = ("id", "prompt", "model", "sampling", "sample", "seed", "prefix_tokens", "parent", "round", "intervention")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PREFIX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    INTERVENTION_FIELD_NUMBER: _ClassVar[int]
    id: str
    prompt: Prompt
    model: str
    sampling: Sampling
    sample: int
    seed: int
    prefix_tokens: _containers.RepeatedScalarFieldContainer[int]
    parent: str
    round: int
    intervention: Intervention
    def __init__(self, id: _Optional[str] = ..., prompt: _Optional[_Union[Prompt, _Mapping]] = ..., model: _Optional[str] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., sample: _Optional[int] = ..., seed: _Optional[int] = ..., prefix_tokens: _Optional[_Iterable[int]] = ..., parent: _Optional[str] = ..., round: _Optional[int] = ..., intervention: _Optional[_Union[Intervention, _Mapping]] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("ordinal", "chars", "tokens")
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    CHARS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    ordinal: int
    chars: Span
    tokens: Span
    def __init__(self, ordinal: _Optional[int] = ..., chars: _Optional[_Union[Span, _Mapping]] = ..., tokens: _Optional[_Union[Span, _Mapping]] = ...) -> None: ...

class Intervention(_message.Message):
    __slots__ = ("kind", "strategy", "producer", "payload", "cut_token", "attempt", "variant", "failure", "scores")
    class ScoresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    CUT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    kind: str
    strategy: str
    producer: str
    payload: str
    cut_token: int
    attempt: int
    variant: str
    failure: str
    scores: _containers.ScalarMap[str, int]
    def __init__(self, kind: _Optional[str] = ..., strategy: _Optional[str] = ..., producer: _Optional[str] = ..., payload: _Optional[str] = ..., cut_token: _Optional[int] = ..., attempt: _Optional[int] = ..., variant: _Optional[str] = ..., failure: _Optional[str] = ..., scores: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Trajectory(_message.Message):
    __slots__ = ("id", "request", "prompt", "sample", "model", "reasoning", "answer", "parse", "finish", "token_ids", "reasoning_tokens", "answer_tokens", "parent", "round", "intervention", "num_prompt_tokens", "num_new_tokens", "seconds", "money", "num_cached_tokens")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    PARSE_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    INTERVENTION_FIELD_NUMBER: _ClassVar[int]
    NUM_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    MONEY_FIELD_NUMBER: _ClassVar[int]
    NUM_CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    id: str
    request: str
    prompt: Prompt
    sample: int
    model: str
    reasoning: str
    answer: str
    parse: Parse
    finish: Finish
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    reasoning_tokens: Span
    answer_tokens: Span
    parent: str
    round: int
    intervention: Intervention
    num_prompt_tokens: int
    num_new_tokens: int
    seconds: float
    money: float
    num_cached_tokens: int
    def __init__(self, id: _Optional[str] = ..., request: _Optional[str] = ..., prompt: _Optional[_Union[Prompt, _Mapping]] = ..., sample: _Optional[int] = ..., model: _Optional[str] = ..., reasoning: _Optional[str] = ..., answer: _Optional[str] = ..., parse: _Optional[_Union[Parse, str]] = ..., finish: _Optional[_Union[Finish, str]] = ..., token_ids: _Optional[_Iterable[int]] = ..., reasoning_tokens: _Optional[_Union[Span, _Mapping]] = ..., answer_tokens: _Optional[_Union[Span, _Mapping]] = ..., parent: _Optional[str] = ..., round: _Optional[int] = ..., intervention: _Optional[_Union[Intervention, _Mapping]] = ..., num_prompt_tokens: _Optional[int] = ..., num_new_tokens: _Optional[int] = ..., seconds: _Optional[float] = ..., money: _Optional[float] = ..., num_cached_tokens: _Optional[int] = ...) -> None: ...

class Judgement(_message.Message):
    __slots__ = ("part", "value", "judge", "score", "labels", "raw")
    PART_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    JUDGE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    part: Part
    value: Value
    judge: str
    score: float
    labels: _containers.RepeatedScalarFieldContainer[str]
    raw: str
    def __init__(self, part: _Optional[_Union[Part, str]] = ..., value: _Optional[_Union[Value, str]] = ..., judge: _Optional[str] = ..., score: _Optional[float] = ..., labels: _Optional[_Iterable[str]] = ..., raw: _Optional[str] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("id", "axis", "trajectory", "reasoning", "answer", "whole", "cue")
    ID_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    TRAJECTORY_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    CUE_FIELD_NUMBER: _ClassVar[int]
    id: str
    axis: Axis
    trajectory: Trajectory
    reasoning: Judgement
    answer: Judgement
    whole: Judgement
    cue: Cue
    def __init__(self, id: _Optional[str] = ..., axis: _Optional[_Union[Axis, str]] = ..., trajectory: _Optional[_Union[Trajectory, _Mapping]] = ..., reasoning: _Optional[_Union[Judgement, _Mapping]] = ..., answer: _Optional[_Union[Judgement, _Mapping]] = ..., whole: _Optional[_Union[Judgement, _Mapping]] = ..., cue: _Optional[_Union[Cue, _Mapping]] = ...) -> None: ...

class Cue(_message.Message):
    __slots__ = ("detector", "step", "num_steps", "char", "token", "labels", "raw")
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    CHAR_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    detector: str
    step: int
    num_steps: int
    char: int
    token: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    raw: str
    def __init__(self, detector: _Optional[str] = ..., step: _Optional[int] = ..., num_steps: _Optional[int] = ..., char: _Optional[int] = ..., token: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., raw: _Optional[str] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("id", "prompt", "verdicts")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    prompt: Prompt
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    def __init__(self, id: _Optional[str] = ..., prompt: _Optional[_Union[Prompt, _Mapping]] = ..., verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ...) -> None: ...

class Unit(_message.Message):
    __slots__ = ("arm", "prompt", "sample", "variant")
    ARM_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    arm: str
    prompt: str
    sample: int
    variant: str
    def __init__(self, arm: _Optional[str] = ..., prompt: _Optional[str] = ..., sample: _Optional[int] = ..., variant: _Optional[str] = ...) -> None: ...

class RewriteRequest(_message.Message):
    __slots__ = ("id", "verdict", "strategy", "attempt", "variant", "settings", "feedback")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    id: str
    verdict: Verdict
    strategy: str
    attempt: int
    variant: str
    settings: str
    feedback: str
    def __init__(self, id: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., strategy: _Optional[str] = ..., attempt: _Optional[int] = ..., variant: _Optional[str] = ..., settings: _Optional[str] = ..., feedback: _Optional[str] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("id", "unit", "state", "reason", "final", "original")
    ID_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    unit: Unit
    state: OutcomeState
    reason: str
    final: Verdict
    original: Verdict
    def __init__(self, id: _Optional[str] = ..., unit: _Optional[_Union[Unit, _Mapping]] = ..., state: _Optional[_Union[OutcomeState, str]] = ..., reason: _Optional[str] = ..., final: _Optional[_Union[Verdict, _Mapping]] = ..., original: _Optional[_Union[Verdict, _Mapping]] = ...) -> None: ...

class Example(_message.Message):
    __slots__ = ("id", "unit", "prompt", "reasoning", "answer", "state", "strategy", "original_reasoning", "original_answer")
    ID_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_REASONING_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_ANSWER_FIELD_NUMBER: _ClassVar[int]
    id: str
    unit: Unit
    prompt: Prompt
    reasoning: str
    answer: str
    state: OutcomeState
    strategy: str
    original_reasoning: str
    original_answer: str
    def __init__(self, id: _Optional[str] = ..., unit: _Optional[_Union[Unit, _Mapping]] = ..., prompt: _Optional[_Union[Prompt, _Mapping]] = ..., reasoning: _Optional[str] = ..., answer: _Optional[str] = ..., state: _Optional[_Union[OutcomeState, str]] = ..., strategy: _Optional[str] = ..., original_reasoning: _Optional[str] = ..., original_answer: _Optional[str] = ...) -> None: ...

class Pair(_message.Message):
    __slots__ = ("id", "unit", "prompt", "chosen_tokens", "rejected_tokens", "prefix_tokens", "trigger", "round", "kind", "chosen", "rejected", "detector", "judge", "verifier")
    ID_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    JUDGE_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_FIELD_NUMBER: _ClassVar[int]
    id: str
    unit: Unit
    prompt: Prompt
    chosen_tokens: _containers.RepeatedScalarFieldContainer[int]
    rejected_tokens: _containers.RepeatedScalarFieldContainer[int]
    prefix_tokens: int
    trigger: str
    round: int
    kind: str
    chosen: str
    rejected: str
    detector: str
    judge: str
    verifier: str
    def __init__(self, id: _Optional[str] = ..., unit: _Optional[_Union[Unit, _Mapping]] = ..., prompt: _Optional[_Union[Prompt, _Mapping]] = ..., chosen_tokens: _Optional[_Iterable[int]] = ..., rejected_tokens: _Optional[_Iterable[int]] = ..., prefix_tokens: _Optional[int] = ..., trigger: _Optional[str] = ..., round: _Optional[int] = ..., kind: _Optional[str] = ..., chosen: _Optional[str] = ..., rejected: _Optional[str] = ..., detector: _Optional[str] = ..., judge: _Optional[str] = ..., verifier: _Optional[str] = ...) -> None: ...

class DatasetManifest(_message.Message):
    __slots__ = ("id", "arm", "kind", "digest", "num_rows", "shards", "counts", "judges")
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class JudgesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NUM_ROWS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    JUDGES_FIELD_NUMBER: _ClassVar[int]
    id: str
    arm: str
    kind: str
    digest: str
    num_rows: int
    shards: _containers.RepeatedScalarFieldContainer[str]
    counts: _containers.ScalarMap[str, int]
    judges: _containers.ScalarMap[str, str]
    def __init__(self, id: _Optional[str] = ..., arm: _Optional[str] = ..., kind: _Optional[str] = ..., digest: _Optional[str] = ..., num_rows: _Optional[int] = ..., shards: _Optional[_Iterable[str]] = ..., counts: _Optional[_Mapping[str, int]] = ..., judges: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("id", "arm", "parent", "model", "path", "dataset", "step", "final_loss", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FINAL_LOSS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    id: str
    arm: str
    parent: str
    model: str
    path: str
    dataset: str
    step: int
    final_loss: float
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, id: _Optional[str] = ..., arm: _Optional[str] = ..., parent: _Optional[str] = ..., model: _Optional[str] = ..., path: _Optional[str] = ..., dataset: _Optional[str] = ..., step: _Optional[int] = ..., final_loss: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...
