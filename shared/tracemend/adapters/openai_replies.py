"""What an endpoint's replies mean: completion, filtered, try again, never, or a set-up mistake.

Called by the openai engine. Pure functions over status, headers and body. Bodies may quote the prompt, so of an
error's body only its short code gets out, and no exception keeps the body as its cause.
"""

from __future__ import annotations

import email.utils
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tracemend.kit.errors import Reject, Retry, SetupError, TracemendError
from tracemend.kit.ports import Completion
from tracemend.records import Finish
from tracemend.redaction import Text

_TRANSIENT = frozenset({408, 409, 425, 429, 529})
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation", "responsibleaipolicyviolation"})
_LENGTH_CODES = frozenset({"context_length_exceeded", "string_above_max_length"})
_FINISHES = {
    "length": Finish.LENGTH, "max_tokens": Finish.LENGTH, "model_length": Finish.LENGTH,
    "content_filter": Finish.FILTERED, "safety": Finish.FILTERED, "prohibited_content": Finish.FILTERED,
    "blocklist": Finish.FILTERED, "recitation": Finish.FILTERED, "spii": Finish.FILTERED,
}  # fmt: skip
_BROKEN_OFF = frozenset({"error", "abort", "insufficient_system_resource"})
"""The server's own trouble ended the reply: what is there was cut off."""
_SETTING_CODES = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})
_SETTING_REMEDIES = {
    "max_tokens": "set the option max_tokens_field, to max_completion_tokens for OpenAI's reasoning models",
    "seed": "set the option send_seed to false",
}
_LENGTH_WORDS = re.compile(
    r"context (length|window)|max_model_len|maximum (context|model) |too long|too many tokens|max(_completion)?_tokens",
    re.IGNORECASE,
)
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,60}")


class Filtered(Exception):
    """The provider's filter refused to answer at all."""


def read_body(content: bytes) -> dict[str, Any]:
    """The reply's JSON object; `Retry` for anything else (a proxy's HTML page, a body cut short)."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise Retry("malformed_reply", after_s=0.0) from None
    if not isinstance(body, dict):
        raise Retry("malformed_reply", after_s=0.0)
    return body


def check(status: int, headers: Mapping[str, str], content: bytes) -> dict[str, Any]:
    """The body of a good reply; raises what a bad one means."""
    if status == 200:
        body = read_body(content)
        if not body.get("error"):
            return body
        status = _inner_status(body["error"])
    raise meaning(status, headers, content)


def meaning(status: int, headers: Mapping[str, str], content: bytes) -> TracemendError | Filtered:
    """The error that a bad reply stands for."""
    codes = error_codes(content)
    if {code.lower() for code in codes} & _FILTER_CODES:
        return Filtered()
    if status in _TRANSIENT or status >= 500:
        quota = "insufficient_quota" in codes
        default_s = 60.0 if quota else 0.0
        return Retry("quota_exhausted" if quota else f"http_{status}", after_s=retry_after_s(headers, default_s))
    if set(codes) & _SETTING_CODES:  # every request would be refused for it
        return _unsupported(content)
    if set(codes) & _LENGTH_CODES or status == 413 or (status in (400, 422) and _speaks_of_length(content)):
        return Reject("prompt_too_long")
    if status in (401, 403):
        return SetupError(
            f"the endpoint refused the API key (HTTP {status}): check the variable that api_key_env names"
        )
    if status in (404, 405) or 300 <= status < 400:
        return SetupError(f"the endpoint has no such model or path (HTTP {status}): check the model's address")
    return Reject(f"http_{status}", ", ".join(codes))


def error_codes(content: bytes) -> list[str]:
    """The short codes of an error body, wherever providers put them; never its message."""
    error = _error_of(content)
    inner = error.get("innererror")
    places = [error, inner if isinstance(inner, dict) else {}]
    values = [place.get(name) for place in places for name in ("code", "type")]
    return [value for value in values if isinstance(value, str) and _CODE.fullmatch(value)]


def _error_of(content: bytes) -> dict[str, Any]:
    """The error object of a body; empty where it has none."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    error = body.get("error", body) if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _unsupported(content: bytes) -> SetupError:
    stated = _error_of(content).get("param")
    name = stated if isinstance(stated, str) and _CODE.fullmatch(stated) else "a setting that was sent"
    remedy = _SETTING_REMEDIES.get(name, "change the model's sampling or its option extra_body")
    return SetupError(f"the endpoint does not take {name} as it is: {remedy}")


def _speaks_of_length(content: bytes) -> bool:
    """Many servers have no code for a request over the context length; their message is read and goes no further."""
    message = _error_of(content).get("message")
    return isinstance(message, str) and bool(_LENGTH_WORDS.search(message))


def retry_after_s(headers: Mapping[str, str], default_s: float, *, now: datetime | None = None) -> float:
    """Seconds that `Retry-After` asks for: a number or an HTTP date."""
    stated = headers.get("Retry-After", "").strip()
    try:
        seconds = float(stated)
        return max(0.0, seconds) if math.isfinite(seconds) else default_s
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(stated)
    except ValueError:
        return default_s
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


def completion_of(body: Mapping[str, Any]) -> Completion:
    """The first choice of a chat or plain completion, without time and money. `Retry` where it has none."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise Retry("malformed_reply", after_s=0.0)
    stated = str(choice.get("finish_reason") or "").lower()
    if stated in _BROKEN_OFF or choice.get("error"):
        raise Retry("provider_error", after_s=0.0)
    if not stated:  # nothing says that it was written to its end
        raise Retry("no_finish_reason", after_s=0.0)
    message = choice.get("message")
    reasoning = None
    if isinstance(message, dict):
        text = _words(message.get("content")) or _words(message.get("refusal"))
        reasoning = _words(message.get("reasoning_content")) or _words(message.get("reasoning"))
    elif isinstance(choice.get("text"), str):
        text = _words(choice["text"])
    else:
        raise Retry("malformed_reply", after_s=0.0)
    usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
    return Completion(
        text=Text(text),
        reasoning=Text(reasoning) if reasoning else None,
        finish=_FINISHES.get(stated, Finish.STOP),
        token_ids=_ids(choice.get("token_ids")),
        logprobs=_logprobs(choice.get("logprobs")),
        num_prompt_tokens=_count(usage, "prompt_tokens"),
        num_new_tokens=_count(usage, "completion_tokens"),
    )


def _inner_status(error: Any) -> int:
    """Some gateways answer 200 and put the status into the error."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def _words(value: Any) -> str:
    """Content as a string or as a list of parts; half surrogates, which no store takes, become question marks."""
    if isinstance(value, list):
        value = "".join(
            part.get("text") or "" for part in value if isinstance(part, dict) and part.get("type") == "text"
        )
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _ids(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) and all(isinstance(i, int) for i in value) else ()


def _logprobs(value: Any) -> tuple[float, ...]:
    """Both shapes: chat (`content`: objects) and plain completions (`token_logprobs`: numbers)."""
    if not isinstance(value, dict):
        return ()
    if isinstance(value.get("content"), list):
        numbers = [entry.get("logprob") for entry in value["content"] if isinstance(entry, dict)]
    else:
        numbers = value.get("token_logprobs") or []
    return tuple(float(n) for n in numbers if isinstance(n, (int, float)))


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0
