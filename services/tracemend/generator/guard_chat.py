"""OpenAI's chat completions as the guard server speaks them: requests read, replies and errors written.

Called by `guard_server`. Reading is strict: what the server could not honour (tools, several choices, a stop string) is
refused by name instead of being ignored. No message of an error holds a word of the request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from tracemend.generator.guarding import Guarded, Piece, Tally
from tracemend.kit.registry import did_you_mean
from tracemend.kit.settings import SamplingSettings
from tracemend.records import Finish, Part, Sampling
from tracemend.redaction import Text

_FINISH = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.FILTERED: "content_filter", Finish.DEAD: "stop"}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "stop": ([], ""),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "modalities": (["text"],),
    "reasoning_effort": (),
    "verbosity": (),
}
"""Parameters of OpenAI's that the server does not have, with the values that ask for nothing."""
_IGNORED = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
)
"""Parameters that say nothing about the reply."""


class ApiError(Exception):
    """An error as OpenAI's clients expect it. The message holds no text of the request."""

    def __init__(
        self, status: int, message: str, *, code: str = "", param: str | None = None, after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.after_s = after_s

    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code or None}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """One request for a completion."""

    model: str
    turns: tuple[tuple[str, Text], ...]
    sampling: Sampling
    seed: int | None
    """None where the client leaves it to us."""
    is_streamed: bool
    wants_usage: bool
    """Whether a stream ends with a chunk of usage."""


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _TextPart(_Wire):
    type: Literal["text"]
    text: str


_Nothing: TypeAlias = Annotated[list[Any], Field(max_length=0)] | None


class _Turn(_Wire):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_TextPart]
    name: str | None = None
    # A reply that a client sends back as it came holds these; earlier reasoning is not read again, as in any template.
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: _Nothing = None
    annotations: _Nothing = None

    def words(self) -> Text:
        whole = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Text(whole.encode("utf-8", "replace").decode("utf-8"))  # JSON can spell lone surrogates


class _StreamOptions(_Wire):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Request(_Wire):
    model: str
    messages: list[_Turn] = Field(min_length=1)
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    repetition_penalty: float | None = Field(None, gt=0)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    seed: int | None = None


def read_call(content: bytes, *, defaults: SamplingSettings) -> ChatCall:
    """The request in `content`; `ApiError` names what is wrong with it. A length beyond `defaults`' is shortened."""
    given = _json_object(content)
    for name, neutral in _NEUTRAL.items():
        if given.pop(name, None) not in (None, *neutral):
            raise ApiError(400, f"'{name}' is not supported by this server", code="unsupported_parameter", param=name)
    try:
        request = _Request.model_validate({name: value for name, value in given.items() if name not in _IGNORED})
    except ValidationError as error:
        raise _complaint(error) from None
    if request.messages[-1].role != "user":
        raise ApiError(400, "the last message must be the user's", code="invalid_value", param="messages")
    asked = request.max_completion_tokens or request.max_tokens or defaults.max_new_tokens
    own = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": max(request.top_k, 0) if request.top_k is not None else None,
        "repetition_penalty": request.repetition_penalty,
        "max_new_tokens": min(asked, defaults.max_new_tokens),
    }
    sampling = defaults.model_copy(update={name: value for name, value in own.items() if value is not None})
    options = request.stream_options
    return ChatCall(
        model=request.model,
        turns=tuple((_role(turn.role), turn.words()) for turn in request.messages),
        sampling=sampling.record(),
        seed=request.seed,
        is_streamed=bool(request.stream),
        wants_usage=bool(options and options.include_usage),
    )


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        given = json.loads(content)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not valid JSON", code="invalid_json") from None
    if not isinstance(given, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_json")
    return given


def _complaint(error: ValidationError) -> ApiError:
    # Of a value that may be one of several things, the deepest error is about the thing that it was meant to be.
    first = max(error.errors(include_url=False, include_input=False, include_context=False), key=_depth)
    param = ".".join(str(part) for part in first["loc"] if part != "str" and not str(part).startswith("list["))
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        hint = did_you_mean(name, sorted(_Request.model_fields)) if len(first["loc"]) == 1 else ""
        shown = name if name.isidentifier() and len(name) <= 40 else "?"
        return ApiError(400, f"unknown parameter '{shown}'{hint}", code="unknown_parameter", param=shown)
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    return ApiError(400, f"{param}: {first['msg']}", code=code, param=param)


def _depth(error: ErrorDetails) -> int:
    return len(error["loc"])


# replies --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Writes the bodies of one reply: whole, or in chunks."""

    id: str
    created: int
    model: str
    guard: str
    mode: str
    num_prompt_tokens: int

    def whole(self, pieces: Sequence[Piece], done: Guarded) -> dict[str, Any]:
        """The body of a reply that is not streamed."""
        words = {part: "".join(p.text.reveal() for p in pieces if p.part is part) for part in Part}
        message = {"role": "assistant", "content": words[Part.ANSWER], "refusal": None}
        message |= _reasoning(words[Part.REASONING]) if words[Part.REASONING] else {}
        choice = {"index": 0, "message": message, "finish_reason": _FINISH[done.finish], "logprobs": None}
        return self._body("chat.completion", [choice]) | {
            "usage": self.usage(done),
            "tracemend": self._told(done.tally),
        }

    def opening(self) -> dict[str, Any]:
        """The first chunk of a stream."""
        return self._chunk({"role": "assistant", "content": ""})

    def chunk(self, piece: Piece) -> dict[str, Any]:
        """A chunk of a stream."""
        words = piece.text.reveal()
        return self._chunk(_reasoning(words) if piece.part is Part.REASONING else {"content": words})

    def closing(self, done: Guarded) -> dict[str, Any]:
        """The chunk that says why the reply ended."""
        return self._chunk({}, finish=_FINISH[done.finish]) | {"tracemend": self._told(done.tally)}

    def usage_chunk(self, done: Guarded) -> dict[str, Any]:
        """The chunk behind the closing one, for clients that ask for usage."""
        return self._body("chat.completion.chunk", []) | {"usage": self.usage(done)}

    def usage(self, done: Guarded) -> dict[str, Any]:
        """Tokens. Those that were drawn and discarded count as completion tokens, as rejected predictions do at OpenAI,
        and are told apart; `cached_tokens` counts over all of the engine's calls, so it may exceed the prompt."""
        tally = done.tally
        num_completion = len(done.token_ids) + tally.num_discarded_tokens
        return {
            "prompt_tokens": self.num_prompt_tokens,
            "completion_tokens": num_completion,
            "total_tokens": self.num_prompt_tokens + num_completion,
            "prompt_tokens_details": {"cached_tokens": min(tally.num_cached_tokens, self.num_prompt_tokens)},
            "completion_tokens_details": {
                "reasoning_tokens": done.num_reasoning_tokens,
                "discarded_tokens": tally.num_discarded_tokens,
            },
        }

    def _told(self, tally: Tally) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "cues": tally.num_cues,
            "interventions": tally.num_interventions,
            "refused": tally.is_refused,
            "looks": tally.num_looks,
            "unknown_looks": tally.num_unknown,
            "discarded_tokens": tally.num_discarded_tokens,
            "inserted_tokens": tally.num_inserted_tokens,
        }

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return self._body("chat.completion.chunk", [choice])

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.guard,
            "choices": choices,
        }


def _reasoning(words: str) -> dict[str, Any]:
    """Under both names that servers of reasoning models use."""
    return {"reasoning_content": words, "reasoning": words}
