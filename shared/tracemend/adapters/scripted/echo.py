"""The `echo` script: answers with the prompt's own words, thinking first. For tests of what surrounds an engine."""

from __future__ import annotations

from collections.abc import Callable

from tracemend.adapters.scripts import last_user_words, scripts
from tracemend.kit.ports import Completion, ModelRequest
from tracemend.records import Finish
from tracemend.redaction import Text


@scripts.register
def echo(*, think: bool = False) -> Callable[[ModelRequest], Completion]:
    """Echo the last user message up to `max_new_tokens` words, after a short thought if `think`."""

    def complete(request: ModelRequest) -> Completion:
        prompt = last_user_words(request)
        written = (["<think>", "echo", "</think>"] if think else []) + prompt
        kept = written[: request.sampling.max_new_tokens]
        text, stopped = _cut(" ".join(kept), request.stop)
        return Completion(
            text=Text(text),
            finish=Finish.STOP if stopped or len(kept) == len(written) else Finish.LENGTH,
            num_prompt_tokens=len(prompt),
            num_new_tokens=len(kept),
        )

    return complete


def _cut(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    found = [text.index(s) for s in stop if s in text]
    return (text[: min(found)], True) if found else (text, False)
