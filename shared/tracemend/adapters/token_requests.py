"""What the engines with a tokenizer of their own do alike: requests to prompt ids, response ids to completions.

Called by the transformers and vLLM engines, so that both refuse, clamp, stop and decode in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tracemend.adapters.tokens import Tokens, is_text
from tracemend.kit.errors import Reject
from tracemend.kit.ports import Completion, ModelRequest
from tracemend.records import Finish, Sampling
from tracemend.redaction import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A request that fits its model."""

    prompt: tuple[int, ...]
    max_new_tokens: int
    """The asked number, clamped to the room that the prompt leaves."""


def prepare(request: ModelRequest, tokens: Tokens, *, max_model_len: int, vocab: int) -> TokenRequest:
    """Prompt ids and room of `request`; `Reject` where it cannot fit, `ValueError` for impossible settings."""
    _check_sampling(request.sampling)
    if not is_text("".join(request.stop)):
        raise ValueError("a stop string must be text, not half a surrogate pair")
    if not request.prompt_tokens and not request.messages:
        raise Reject("empty_prompt", "neither prompt_tokens nor messages")
    prompt = request.prompt_tokens or tokens.render(request.messages)
    if not prompt:
        raise Reject("empty_prompt", "the messages hold no tokens")
    if not 0 <= min(prompt) <= max(prompt) < vocab:
        raise Reject("unknown_tokens", f"the model has {vocab} tokens")
    room = max_model_len - len(prompt)
    if room < 1:
        raise Reject("prompt_too_long", f"{len(prompt)} tokens; the model holds {max_model_len} with the response")
    return TokenRequest(prompt=prompt, max_new_tokens=min(request.sampling.max_new_tokens, room))


def find_stop(text: str, stop: Sequence[str]) -> int | None:
    """Character at which the earliest stop string begins; None if there is none."""
    return min((at for s in stop if s and (at := text.find(s)) >= 0), default=None)


def stops_in_tail(tokens: Tokens, written: Sequence[int], stop: Sequence[str]) -> bool:
    """Whether a stop string ends within the last tokens of `written`; looks at a bounded tail alone.

    A byte-level token holds at least one byte, so a stop string of B bytes spans at most B tokens.
    """
    longest_bytes = max((len(s.encode()) for s in stop), default=0)
    tail = written[-(longest_bytes + 4) :]
    return longest_bytes > 0 and find_stop(tokens.text_of(tail), stop) is not None


def completion_of(
    request: ModelRequest, tokens: Tokens, *, written: Sequence[int], finish: Finish, num_prompt_tokens: int,
    num_cached_tokens: int = 0, logprobs: Sequence[float] = (), seconds: float = 0.0,
) -> Completion:  # fmt: skip
    """`text` ends before the stop string where one was met; `token_ids` hold all that was drawn, the stop included."""
    text = tokens.text_of(written)
    at = find_stop(text, request.stop)
    return Completion(
        text=Text(text if at is None else text[:at]),
        finish=finish if at is None else Finish.STOP,
        token_ids=tuple(written),
        logprobs=tuple(logprobs),
        num_prompt_tokens=num_prompt_tokens,
        num_cached_tokens=num_cached_tokens,
        num_new_tokens=len(written),
        seconds=seconds,
    )


def _check_sampling(sampling: Sampling) -> None:
    if sampling.max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, not {sampling.max_new_tokens}")
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise ValueError(f"temperature must be a number from 0 on, not {sampling.temperature}")
    if not 0 < sampling.top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], not {sampling.top_p}")
    if sampling.top_k < 0:
        raise ValueError(f"top_k must be 0 (off) or more, not {sampling.top_k}")
    if not (math.isfinite(sampling.repetition_penalty) and sampling.repetition_penalty > 0):
        raise ValueError(f"repetition_penalty must be positive, not {sampling.repetition_penalty}")
