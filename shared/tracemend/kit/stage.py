"""Stages: pure-minded workers between topics, and what the pump asks of them.

A stage says how to turn one message into others. It never acknowledges, retries, stores or publishes: the pump
(`kit.pump`) does, in the one order that loses nothing:

    deliver → look up the work key ─ done before ──────────────────────────┐
                    │ new                                                  │
              count the attempt → work → pack → ledger (first writer wins) → follow → publish → acknowledge
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tracemend.kit.ports import Cost, Message
from tracemend.topics import Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Produced:
    """What one piece of work gave: messages to publish, in order, and what it took."""

    messages: tuple[Message, ...] = ()
    cost: Cost | None = None


class Stage(Protocol):
    """A worker between topics."""

    @property
    def name(self) -> str:
        """Consumer group, metric label and worker name."""
        ...

    @property
    def inputs(self) -> tuple[Topic, ...]:
        """Topics that it reads, most urgent first."""
        ...

    async def prepare(self, messages: Sequence[Message]) -> None:
        """Get ready for `messages`, which are about to be worked: their keys are asked for next. Waits out what may
        pass; what is wrong with a message comes out of its work."""
        ...

    def key(self, message: Message) -> str | None:
        """The work key, or None for pure and cheap work whose result need not be remembered."""
        ...

    async def work(self, message: Message) -> Produced:
        """Turn the message into others. Raises `Retry`, `Reject`, `PutAside`, or `SetupError`, which stops the
        stage; anything else is a bug and dead-letters the message.

        The records must be a function of the message's record and the stage's settings alone: two workers that race
        on one key must be able to take each other's result.
        """
        ...

    async def follow(self, messages: Sequence[Message]) -> Sequence[Message]:
        """More messages that depend on what is already durable (completed groups), for a batch of inputs at once; runs
        on every delivery, repeats included, after the results are in the ledger and before anything is published. Must
        be idempotent, and say once what several of `messages` give occasion to."""
        ...

    def dead(self, message: Message, reason: str) -> Sequence[Message]:
        """What to publish instead when the message is given up, so that its unit still ends."""
        ...
