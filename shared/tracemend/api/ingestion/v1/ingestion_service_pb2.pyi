import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tracemend.api.records.v1 import records_pb2 as _records_pb2
from tracemend.api.views.v1 import views_pb2 as _views_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Run(_message.Message):
    __slots__ = ("name", "display_name", "state", "etag", "plan", "target", "create_time", "update_time", "submitter", "counts", "reason")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Run.State]
        STATE_RECEIVING: _ClassVar[Run.State]
        STATE_SEALED: _ClassVar[Run.State]
        STATE_RUNNING: _ClassVar[Run.State]
        STATE_PAUSED: _ClassVar[Run.State]
        STATE_CANCELLED: _ClassVar[Run.State]
        STATE_FAILED: _ClassVar[Run.State]
        STATE_DONE: _ClassVar[Run.State]
    STATE_UNSPECIFIED: Run.State
    STATE_RECEIVING: Run.State
    STATE_SEALED: Run.State
    STATE_RUNNING: Run.State
    STATE_PAUSED: Run.State
    STATE_CANCELLED: Run.State
    STATE_FAILED: Run.State
    STATE_DONE: Run.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SUBMITTER_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    state: Run.State
    etag: str
    plan: str
    target: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    submitter: str
    counts: RunCounts
    reason: str
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., state: _Optional[_Union[Run.State, str]] = ..., etag: _Optional[str] = ..., plan: _Optional[str] = ..., target: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., submitter: _Optional[str] = ..., counts: _Optional[_Union[RunCounts, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class RunCounts(_message.Message):
    __slots__ = ("num_received", "num_admitted", "num_refused", "num_units", "num_ended", "outcomes", "costs")
    NUM_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    NUM_ADMITTED_FIELD_NUMBER: _ClassVar[int]
    NUM_REFUSED_FIELD_NUMBER: _ClassVar[int]
    NUM_UNITS_FIELD_NUMBER: _ClassVar[int]
    NUM_ENDED_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    COSTS_FIELD_NUMBER: _ClassVar[int]
    num_received: int
    num_admitted: int
    num_refused: int
    num_units: int
    num_ended: int
    outcomes: _containers.RepeatedCompositeFieldContainer[OutcomeCount]
    costs: _containers.RepeatedCompositeFieldContainer[StageCost]
    def __init__(self, num_received: _Optional[int] = ..., num_admitted: _Optional[int] = ..., num_refused: _Optional[int] = ..., num_units: _Optional[int] = ..., num_ended: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[OutcomeCount, _Mapping]]] = ..., costs: _Optional[_Iterable[_Union[StageCost, _Mapping]]] = ...) -> None: ...

class OutcomeCount(_message.Message):
    __slots__ = ("arm", "state", "reason", "number")
    ARM_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    arm: str
    state: _records_pb2.OutcomeState
    reason: str
    number: int
    def __init__(self, arm: _Optional[str] = ..., state: _Optional[_Union[_records_pb2.OutcomeState, str]] = ..., reason: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class StageCost(_message.Message):
    __slots__ = ("stage", "num_items", "num_prompt_tokens", "num_cached_tokens", "num_new_tokens", "seconds", "money")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    NUM_ITEMS_FIELD_NUMBER: _ClassVar[int]
    NUM_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    MONEY_FIELD_NUMBER: _ClassVar[int]
    stage: str
    num_items: int
    num_prompt_tokens: int
    num_cached_tokens: int
    num_new_tokens: int
    seconds: float
    money: float
    def __init__(self, stage: _Optional[str] = ..., num_items: _Optional[int] = ..., num_prompt_tokens: _Optional[int] = ..., num_cached_tokens: _Optional[int] = ..., num_new_tokens: _Optional[int] = ..., seconds: _Optional[float] = ..., money: _Optional[float] = ...) -> None: ...

class CreateRunRequest(_message.Message):
    __slots__ = ("plan", "plan_digest", "request_id", "validate_only")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    PLAN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    plan: bytes
    plan_digest: str
    request_id: str
    validate_only: bool
    def __init__(self, plan: _Optional[bytes] = ..., plan_digest: _Optional[str] = ..., request_id: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class CreateRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "states")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    states: _containers.RepeatedScalarFieldContainer[Run.State]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., states: _Optional[_Iterable[_Union[Run.State, str]]] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs", "next_page_token")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    next_page_token: str
    def __init__(self, runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelRunRequest(_message.Message):
    __slots__ = ("name", "request_id", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class CancelRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class PauseRunRequest(_message.Message):
    __slots__ = ("name", "request_id", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class PauseRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class ResumeRunRequest(_message.Message):
    __slots__ = ("name", "request_id", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class ResumeRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class WatchRunRequest(_message.Message):
    __slots__ = ("name", "cursor")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    cursor: str
    def __init__(self, name: _Optional[str] = ..., cursor: _Optional[str] = ...) -> None: ...

class WatchRunResponse(_message.Message):
    __slots__ = ("run", "cursor")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    run: Run
    cursor: str
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., cursor: _Optional[str] = ...) -> None: ...

class UploadHeader(_message.Message):
    __slots__ = ("parent", "request_id", "num_expected_rows", "schema_version", "content_digest")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NUM_EXPECTED_ROWS_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    parent: str
    request_id: str
    num_expected_rows: int
    schema_version: int
    content_digest: str
    def __init__(self, parent: _Optional[str] = ..., request_id: _Optional[str] = ..., num_expected_rows: _Optional[int] = ..., schema_version: _Optional[int] = ..., content_digest: _Optional[str] = ...) -> None: ...

class UploadChunk(_message.Message):
    __slots__ = ("sequence", "rows", "crc32")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    rows: bytes
    crc32: int
    def __init__(self, sequence: _Optional[int] = ..., rows: _Optional[bytes] = ..., crc32: _Optional[int] = ...) -> None: ...

class UploadEnd(_message.Message):
    __slots__ = ("num_chunks", "num_rows")
    NUM_CHUNKS_FIELD_NUMBER: _ClassVar[int]
    NUM_ROWS_FIELD_NUMBER: _ClassVar[int]
    num_chunks: int
    num_rows: int
    def __init__(self, num_chunks: _Optional[int] = ..., num_rows: _Optional[int] = ...) -> None: ...

class UploadPromptsRequest(_message.Message):
    __slots__ = ("header", "chunk", "end")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    header: UploadHeader
    chunk: UploadChunk
    end: UploadEnd
    def __init__(self, header: _Optional[_Union[UploadHeader, _Mapping]] = ..., chunk: _Optional[_Union[UploadChunk, _Mapping]] = ..., end: _Optional[_Union[UploadEnd, _Mapping]] = ...) -> None: ...

class UploadPromptsResponse(_message.Message):
    __slots__ = ("upload",)
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    upload: Upload
    def __init__(self, upload: _Optional[_Union[Upload, _Mapping]] = ...) -> None: ...

class Upload(_message.Message):
    __slots__ = ("name", "next_sequence", "num_rows", "complete")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NUM_ROWS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    name: str
    next_sequence: int
    num_rows: int
    complete: bool
    def __init__(self, name: _Optional[str] = ..., next_sequence: _Optional[int] = ..., num_rows: _Optional[int] = ..., complete: _Optional[bool] = ...) -> None: ...

class PromptRows(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[PromptRow]
    def __init__(self, rows: _Optional[_Iterable[_Union[PromptRow, _Mapping]]] = ...) -> None: ...

class PromptRow(_message.Message):
    __slots__ = ("text", "category", "source", "where", "licence", "split", "tags", "reference", "reason", "detail")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    text: str
    category: _records_pb2.Category
    source: str
    where: str
    licence: str
    split: str
    tags: _containers.ScalarMap[str, str]
    reference: str
    reason: str
    detail: str
    def __init__(self, text: _Optional[str] = ..., category: _Optional[_Union[_records_pb2.Category, str]] = ..., source: _Optional[str] = ..., where: _Optional[str] = ..., licence: _Optional[str] = ..., split: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ..., reference: _Optional[str] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class GetUploadRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetUploadResponse(_message.Message):
    __slots__ = ("upload",)
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    upload: Upload
    def __init__(self, upload: _Optional[_Union[Upload, _Mapping]] = ...) -> None: ...

class SealRunRequest(_message.Message):
    __slots__ = ("name", "request_id", "etag", "validate_only")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    etag: str
    validate_only: bool
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., etag: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class SealRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class ListOutcomesRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "arm", "states", "reason", "prompt")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    arm: str
    states: _containers.RepeatedScalarFieldContainer[_records_pb2.OutcomeState]
    reason: str
    prompt: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., arm: _Optional[str] = ..., states: _Optional[_Iterable[_Union[_records_pb2.OutcomeState, str]]] = ..., reason: _Optional[str] = ..., prompt: _Optional[str] = ...) -> None: ...

class ListOutcomesResponse(_message.Message):
    __slots__ = ("outcomes", "next_page_token")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[_views_pb2.OutcomeView]
    next_page_token: str
    def __init__(self, outcomes: _Optional[_Iterable[_Union[_views_pb2.OutcomeView, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RedriveUnitsRequest(_message.Message):
    __slots__ = ("parent", "request_id", "arm", "reason", "validate_only")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    request_id: str
    arm: str
    reason: str
    validate_only: bool
    def __init__(self, parent: _Optional[str] = ..., request_id: _Optional[str] = ..., arm: _Optional[str] = ..., reason: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class RedriveUnitsResponse(_message.Message):
    __slots__ = ("num_units", "prompts", "reasons")
    class PromptsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ReasonsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NUM_UNITS_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    num_units: int
    prompts: _containers.ScalarMap[str, int]
    reasons: _containers.ScalarMap[str, int]
    def __init__(self, num_units: _Optional[int] = ..., prompts: _Optional[_Mapping[str, int]] = ..., reasons: _Optional[_Mapping[str, int]] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("name", "topic", "stage", "reason", "record", "create_time", "num_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    topic: str
    stage: str
    reason: str
    record: str
    create_time: _timestamp_pb2.Timestamp
    num_bytes: int
    def __init__(self, name: _Optional[str] = ..., topic: _Optional[str] = ..., stage: _Optional[str] = ..., reason: _Optional[str] = ..., record: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., num_bytes: _Optional[int] = ...) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "filter")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    filter: DeadLetterFilter
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[_Union[DeadLetterFilter, _Mapping]] = ...) -> None: ...

class DeadLetterFilter(_message.Message):
    __slots__ = ("topic", "stage", "reason")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    topic: str
    stage: str
    reason: str
    def __init__(self, topic: _Optional[str] = ..., stage: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("dead_letters", "next_page_token")
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dead_letters: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    next_page_token: str
    def __init__(self, dead_letters: _Optional[_Iterable[_Union[DeadLetter, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RedriveDeadLettersRequest(_message.Message):
    __slots__ = ("parent", "request_id", "filter", "max_messages", "rate_per_s", "validate_only")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    RATE_PER_S_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    request_id: str
    filter: DeadLetterFilter
    max_messages: int
    rate_per_s: float
    validate_only: bool
    def __init__(self, parent: _Optional[str] = ..., request_id: _Optional[str] = ..., filter: _Optional[_Union[DeadLetterFilter, _Mapping]] = ..., max_messages: _Optional[int] = ..., rate_per_s: _Optional[float] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class RedriveDeadLettersResponse(_message.Message):
    __slots__ = ("num_matched", "num_published")
    NUM_MATCHED_FIELD_NUMBER: _ClassVar[int]
    NUM_PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    num_matched: int
    num_published: int
    def __init__(self, num_matched: _Optional[int] = ..., num_published: _Optional[int] = ...) -> None: ...

class TraceRecordRequest(_message.Message):
    __slots__ = ("parent", "id")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    parent: str
    id: str
    def __init__(self, parent: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class TraceRecordResponse(_message.Message):
    __slots__ = ("matched", "row", "prompt", "samples", "rewrites", "forks", "outcomes", "published", "num_open_units")
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    REWRITES_FIELD_NUMBER: _ClassVar[int]
    FORKS_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    NUM_OPEN_UNITS_FIELD_NUMBER: _ClassVar[int]
    matched: str
    row: int
    prompt: _views_pb2.PromptView
    samples: _containers.RepeatedCompositeFieldContainer[_views_pb2.VerdictView]
    rewrites: _containers.RepeatedCompositeFieldContainer[_views_pb2.VerdictView]
    forks: _containers.RepeatedCompositeFieldContainer[_views_pb2.VerdictView]
    outcomes: _containers.RepeatedCompositeFieldContainer[_views_pb2.OutcomeView]
    published: _containers.RepeatedCompositeFieldContainer[PublishedRow]
    num_open_units: int
    def __init__(self, matched: _Optional[str] = ..., row: _Optional[int] = ..., prompt: _Optional[_Union[_views_pb2.PromptView, _Mapping]] = ..., samples: _Optional[_Iterable[_Union[_views_pb2.VerdictView, _Mapping]]] = ..., rewrites: _Optional[_Iterable[_Union[_views_pb2.VerdictView, _Mapping]]] = ..., forks: _Optional[_Iterable[_Union[_views_pb2.VerdictView, _Mapping]]] = ..., outcomes: _Optional[_Iterable[_Union[_views_pb2.OutcomeView, _Mapping]]] = ..., published: _Optional[_Iterable[_Union[PublishedRow, _Mapping]]] = ..., num_open_units: _Optional[int] = ...) -> None: ...

class PublishedRow(_message.Message):
    __slots__ = ("arm", "row", "example", "sample")
    ARM_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    arm: str
    row: int
    example: str
    sample: int
    def __init__(self, arm: _Optional[str] = ..., row: _Optional[int] = ..., example: _Optional[str] = ..., sample: _Optional[int] = ...) -> None: ...

class GetTrajectoryTextRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetTrajectoryTextResponse(_message.Message):
    __slots__ = ("prompt", "reasoning", "answer")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    reasoning: str
    answer: str
    def __init__(self, prompt: _Optional[str] = ..., reasoning: _Optional[str] = ..., answer: _Optional[str] = ...) -> None: ...
