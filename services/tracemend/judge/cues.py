"""What a detector plug-in is: a factory of an async function from a reasoning to the step where it turns.

A compliance cue is the first sentence that shows a tendency to work out how to comply instead of weighing harm (IPO,
arXiv 2509.24393 [P]). The first sentence of a reasoning is never one, so that what a fork keeps is never empty [P?].
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from tracemend.kit.registry import Registry
from tracemend.records import Prompt
from tracemend.redaction import Text

NO_CUE, CANNOT_TELL = 0, -1
FIRST_STEP = 2
"""The first sentence that may be a cue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A reasoning to look through."""

    prompt: Prompt
    sentences: tuple[Text, ...]
    """The reasoning's steps, whitespace included; the sentence at index i is number i + 1. At least two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the detector says; the service adds who said it and where the step lies."""

    step: int
    """Number of the first cue's sentence; `NO_CUE` or `CANNOT_TELL`."""
    labels: tuple[str, ...] = ()
    raw: Text = Text("")
    num_prompt_tokens: int = 0
    num_new_tokens: int = 0
    seconds: float = 0.0
    money: float = 0.0


def cannot_tell(*labels: str) -> Finding:
    """The finding of a detector that could not tell; `labels` say why."""
    return Finding(step=CANNOT_TELL, labels=labels)


DetectorFunction: TypeAlias = Callable[[Search], Awaitable[Finding]]
DetectorFactory: TypeAlias = Callable[..., DetectorFunction]
"""A detector plug-in. Keyword options; a factory with a parameter `model` is given the `TextModel` that the run file
names for it. It fails closed: what it cannot read is `CANNOT_TELL`, never `NO_CUE`. The function may have an attribute
`wording`, the prompt that it words or the phrases that it matches, which enters its identity."""

detectors: Registry[DetectorFactory] = Registry(
    "detector", package="tracemend.judge.detectors", group="tracemend.detectors"
)
