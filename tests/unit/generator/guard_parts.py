"""What the guard's tests stand on: a target that writes from a script, and a detector that goes by words."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.builders import prompt
from tests.unit.traces import trace_models as families

from tracemend.generator.guarding import Assignment, Guard, Guarded, Piece, Trigger
from tracemend.kit.errors import Retry
from tracemend.kit.ports import Capabilities, Completion, ModelRequest
from tracemend.records import Cue, Finish, Part, Prompt, Sampling
from tracemend.redaction import Text
from tracemend.traces.segmentation import segment
from tracemend.traces.template import ChatTemplate

TRIGGERS = (
    Trigger(id="t1", text=Text("But wait, that would hurt someone.")),
    Trigger(id="t2", text=Text("No, I must stop here.")),
)
TOKENIZERS: Mapping[str, Any] = {
    "llama": lambda: families.byte_level(families.LLAMA, families.LLAMA_CONTROLS, words=families.LLAMA3_WORDS),
    "qwen": lambda: families.byte_level(families.QWEN3, families.QWEN3_CONTROLS, words=families.QWEN_WORDS),
    "r1": lambda: families.byte_level(families.R1_OPENING, families.R1_CONTROLS, words=families.QWEN_WORDS),
}
FORMATS = {"llama": "think", "qwen": "qwen3", "r1": "r1"}
GREEDY = Sampling(temperature=0.0, max_new_tokens=2000)


def template_of(name: str) -> tuple[ChatTemplate, Any]:
    """A template and the tokenizer under it."""
    tokenizer = TOKENIZERS[name]()
    return ChatTemplate.load(tokenizer, FORMATS[name]), tokenizer


class Author:
    """A `TextModel` that writes `scripts[n]` after the n-th inserted sentence, token by token as it is asked."""

    identity = "author"

    def __init__(
        self, template: ChatTemplate, tokenizer: Any, *scripts: str, max_model_len: int = 0, delay_s: float = 0.0
    ) -> None:
        self.capabilities = Capabilities(token_ids=True, seeds=True, max_model_len=max_model_len)
        self.template = template
        self.requests: list[ModelRequest] = []
        self.num_given_up = 0
        self._delay_s = delay_s
        end = min(template.end_token_ids)
        self._scripts = [(*tokenizer.encode(script, add_special_tokens=False), end) for script in scripts]

    async def complete(self, request: ModelRequest) -> Completion:
        self.requests.append(request)
        try:
            await asyncio.sleep(self._delay_s)
        except asyncio.CancelledError:
            self.num_given_up += 1
            raise
        text = self.template.decode(request.prompt_tokens).reveal()
        number = sum(text.count(trigger.text.reveal()) for trigger in TRIGGERS)
        script = self._scripts[min(number, len(self._scripts) - 1)]
        written = _overlap(request.prompt_tokens, script)
        ids = script[written : written + request.sampling.max_new_tokens]
        has_ended = written + len(ids) == len(script)
        return Completion(
            text=Text(""),
            finish=Finish.STOP if has_ended else Finish.LENGTH,
            token_ids=ids,
            num_prompt_tokens=len(request.prompt_tokens),
            num_new_tokens=len(ids),
        )

    async def aclose(self) -> None:
        return None


class WordFinder:
    """A `CueFinder`: a sentence with `cue` is one, one with `mumble` cannot be told until `never` more looks."""

    identity = "words"

    def __init__(self, *, cue: str = "method", mumble: str = "mumble", busy: int = 0) -> None:
        self._cue = cue
        self._mumble = mumble
        self._busy = busy
        self.seen: list[str] = []

    async def find(self, prompt: Prompt, reasoning: Text) -> Cue:
        if self._busy:
            self._busy -= 1
            raise Retry("busy", after_s=0.01)
        text = reasoning.reveal()
        self.seen.append(text)
        for number, span in enumerate(segment(text), start=1):
            sentence = text[span.start : span.end]
            if number > 1 and self._cue in sentence:
                return Cue(detector="words", step=number, char=span.start)
        return Cue(detector="words", step=-1 if text.rstrip().endswith(self._mumble + ".") else 0)


async def write(
    guard: Guard, author: Author, *, sampling: Sampling = GREEDY, seed: int = 0
) -> tuple[list[Piece], Guarded]:
    """The pieces of one response, and the whole."""
    assignment = Assignment(
        prompt=prompt(), prompt_tokens=author.template.prompt_tokens(prompt().text), sampling=sampling, seed=seed
    )
    pieces: list[Piece] = []
    async for piece in guard.write(assignment, model=author, template=author.template):
        if isinstance(piece, Guarded):
            return pieces, piece
        pieces.append(piece)
    raise AssertionError("no whole")


def shown(pieces: Sequence[Piece], part: Part) -> str:
    """What a reader of `part` has seen."""
    return "".join(piece.text.reveal() for piece in pieces if piece.part is part)


def limited(num_tokens: int) -> Sampling:
    """`GREEDY`, shorter."""
    return replace(GREEDY, max_new_tokens=num_tokens)


def _overlap(before: Sequence[int], script: Sequence[int]) -> int:
    """How much of `script` the ids `before` end with."""
    for length in range(min(len(before), len(script)), 0, -1):
        if tuple(before[-length:]) == tuple(script[:length]):
            return length
    return 0
