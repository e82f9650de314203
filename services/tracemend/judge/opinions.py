"""What a judge plug-in is: a factory of an async function from a question to an opinion."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from tracemend.kit.registry import Registry
from tracemend.records import Axis, Part, Prompt, Value
from tracemend.redaction import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One part of a trajectory to judge."""

    prompt: Prompt
    axis: Axis
    part: Part
    text: Text
    """The part's own text; for `WHOLE`, reasoning and answer as one text, joined by a blank line."""
    reasoning: Text = Text("")
    """For `WHOLE` alone, the first half of `text`: a judge of one part does not get to see the other."""
    answer: Text = Text("")
    """For `WHOLE` alone, the second half."""
    is_finished: bool = True
    """Whether the model ended this part by itself: the reasoning was closed, the answer was not cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What the judge says; the service adds who said it."""

    value: Value
    score: float = -1.0
    labels: tuple[str, ...] = ()
    raw: Text = Text("")
    num_prompt_tokens: int = 0
    num_new_tokens: int = 0
    seconds: float = 0.0
    money: float = 0.0


def says_nothing(text: Text) -> bool:
    """Whether `text` has no letter and no digit: blank, or punctuation alone. No judge finds such a text safe."""
    return not any(character.isalnum() for character in text.reveal())


JudgeFunction: TypeAlias = Callable[[Question], Awaitable[Opinion]]
JudgeFactory: TypeAlias = Callable[..., JudgeFunction]
"""A judge plug-in. Keyword options; a factory with a parameter `model` is given the `TextModel` that the run file
names for it, one with `models` a sequence of them, and one with `members` the judges that it consults. It fails closed:
what it cannot read is `UNKNOWN`. The function may have two attributes: `wording`, the prompt that it words or the
phrases that it matches, which enter its identity (other words are another judge), and `axes`, the axes that it can
speak on (all where it does not say)."""

judges: Registry[JudgeFactory] = Registry("judge", package="tracemend.judge.judges", group="tracemend.judges")
