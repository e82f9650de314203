"""What a reward is to a training that samples, and how it reaches one that runs in this process.

Judges belong to another slice, so whoever composes a training offers a reward under its identity for as long as the
training runs; the job's arguments carry the identity alone, as they carry everything, and `trainer.job` finds it here.
A job in a process of its own finds nothing and says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tracemend.records import Finish, Parse, Prompt
from tracemend.redaction import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A response that the model in training wrote, split as it is served."""

    prompt: Prompt
    reasoning: Text
    answer: Text
    token_ids: tuple[int, ...]
    parse: Parse
    finish: Finish
    """`STOP` where it ended by itself, `LENGTH` where it was cut off."""


class Reward(Protocol):
    """Scores responses."""

    @property
    def identity(self) -> str:
        """What the scores are a function of: the judge's configuration, the formula."""
        ...

    def __call__(self, responses: Sequence[Sampled]) -> Sequence[float]:
        """One finite number per response, in order. Called in the training's thread, and may take its time."""
        ...


_offered: dict[str, Reward] = {}


@contextlib.contextmanager
def offer(reward: Reward) -> Iterator[None]:
    """Let trainings in this process use `reward` by its identity."""
    _offered[reward.identity] = reward
    try:
        yield
    finally:
        _offered.pop(reward.identity, None)


def offered(identity: str) -> Reward | None:
    """The reward that is offered under `identity` now, if any."""
    return _offered.get(identity)
