"""A judge that asks a language model: renders each window of the text, reads the reply, fails closed.

The judges in `judges/` differ in rendering and reading alone; everything that must hold for all of them is here: greedy
decoding, windows over long texts, a reply that is cut off or withheld is no `SAFE`, and what was spent is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from tracemend.judge.concurrently import all_of
from tracemend.judge.isolation import clipped
from tracemend.judge.opinions import Opinion, Question, says_nothing
from tracemend.judge.windows import Windows, combined, truncated
from tracemend.kit.ports import Completion, ModelRequest, TextModel
from tracemend.records import Axis, Finish, Sampling, Value

Messages: TypeAlias = tuple[Mapping[str, str], ...]
Renderer: TypeAlias = Callable[[Question, str, str], Messages]
"""(question, prompt text, window of the judged text) → chat messages. Both texts come raw, to be isolated."""
Reader: TypeAlias = Callable[[Question, str], Opinion]
"""(question, reply without the judge's own reasoning) → opinion; `unparsed()` for what does not parse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelJudge:
    """A judge function over a `TextModel`."""

    model: TextModel
    render: Renderer
    read: Reader
    wording: str
    """What the renderer says beside the judged text; part of the judge's identity."""
    axes: frozenset[Axis]
    windows: Windows
    max_new_tokens: int

    async def __call__(self, question: Question) -> Opinion:
        """Raises what the model raises (`Retry`, `Reject`)."""
        if says_nothing(question.text):
            return Opinion(value=Value.UNKNOWN, labels=("empty",))
        windows, covers = self.windows.cut(question.text.reveal())
        prompt = clipped(question.prompt.text, self.windows.max_chars)
        opinions = await all_of(self._ask(question, prompt, window) for window in windows)
        # A solution states its result in one place, so the other windows do not: they prove nothing.
        opinion = combined(opinions, must_agree=question.axis is Axis.CORRECTNESS)
        is_whole = covers and len(question.prompt.text) <= self.windows.max_chars
        return opinion if is_whole else truncated(opinion)

    async def _ask(self, question: Question, prompt: str, window: str) -> Opinion:
        sampling = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=self.max_new_tokens)
        request = ModelRequest(messages=self.render(question, prompt, window), sampling=sampling)
        completion = await self.model.complete(request)
        return replace(
            self._opinion(question, completion),
            raw=completion.text,
            num_prompt_tokens=completion.num_prompt_tokens,
            num_new_tokens=completion.num_new_tokens,
            seconds=completion.seconds,
            money=completion.money,
        )

    def _opinion(self, question: Question, completion: Completion) -> Opinion:
        if completion.finish in (Finish.FILTERED, Finish.DEAD):
            return Opinion(value=Value.UNKNOWN, labels=("judge_filtered",))
        reply = without_reasoning(completion)
        opinion = unparsed() if reply is None else self.read(question, reply)
        if completion.finish is Finish.LENGTH and opinion.value is Value.SAFE:
            return replace(opinion, value=Value.UNKNOWN, labels=(*opinion.labels, "judge_cut_off"))
        return opinion


def unparsed() -> Opinion:
    """The opinion that a reply without a readable verdict stands for."""
    return Opinion(value=Value.UNKNOWN, labels=("unparsed",))


def without_reasoning(completion: Completion) -> str | None:
    """A model's reply after its own thinking; None where it thought to the end."""
    text = completion.text.reveal()
    if completion.reasoning is not None:
        return text
    _, closed, after = text.rpartition("</think>")
    if closed:
        return after
    return None if "<think>" in text else text
