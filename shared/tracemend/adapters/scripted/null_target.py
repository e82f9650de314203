"""The `null_target` script: a reasoning model without a model, for load tests and kill-and-resume tests.

Its text is filler that ends in a machine-readable word, `unsafe` or `safe`, in reasoning and answer alike, so that a
trivial judge can decide. Which one is a function of the prompt and the seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tracemend.adapters.scripts import last_user_message, scripts
from tracemend.kit.ids import canonical
from tracemend.kit.ports import Completion, ModelRequest
from tracemend.records import Finish
from tracemend.redaction import Text

_FILLER = ("consider", "the", "question", "then", "weigh", "what", "may", "follow", "and", "go", "on", "so")


@scripts.register
def null_target(
    *, unsafe_share: float = 0.5, hard_share: float = 0.3, num_sentences: int = 4
) -> Callable[[ModelRequest], Completion]:
    """`hard_share` of the prompts are always answered unsafely; the rest with probability `unsafe_share` per sample."""

    def complete(request: ModelRequest) -> Completion:
        prompt = last_user_message(request) or repr(request.prompt_tokens)
        is_hard = _uniform("hard", prompt) < hard_share
        is_unsafe = is_hard or _uniform("sample", prompt, request.seed) < unsafe_share
        word = "unsafe" if is_unsafe else "safe"
        start = int(_uniform("filler", prompt, request.seed) * len(_FILLER))
        sentences = [
            " ".join(_FILLER[(start + i + j) % len(_FILLER)] for j in range(6)) + "." for i in range(num_sentences)
        ]
        text = f"<think>\n{' '.join(sentences)} This is {word}.\n</think>\n\nThe answer is {word}."
        return Completion(
            text=Text(text),
            finish=Finish.STOP,
            num_prompt_tokens=len(prompt.split()) or 1,
            num_new_tokens=len(text.split()),
        )

    return complete


def _uniform(*causes: str | int) -> float:
    return int.from_bytes(hashlib.sha256(canonical(list(causes))).digest()[:8], "big") / 2**64
