"""What a pump holds of each delivery while it is on its way through, and what it has counted. Used by `kit.pump`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tracemend.kit.ports import Cost, Delivery, Message
from tracemend.kit.results import Product


@dataclass(slots=True)
class PumpStats:
    """What a pump has done so far; read by the progress display and by metrics."""

    stage: str
    num_done: int = 0
    num_replayed: int = 0
    """Finished before: answered from the ledger."""
    num_retried: int = 0
    num_dead: int = 0
    num_in_flight: int = 0
    num_prompt_tokens: int = 0
    num_new_tokens: int = 0
    money: float = 0.0
    dead_reasons: dict[str, int] = field(default_factory=dict)

    def add_dead(self, reason: str) -> None:
        self.num_dead += 1
        self.dead_reasons[reason] = self.dead_reasons.get(reason, 0) + 1

    def add_done(self, cost: Cost | None) -> None:
        self.num_done += 1
        if cost is not None:
            self.num_prompt_tokens += cost.num_prompt_tokens
            self.num_new_tokens += cost.num_new_tokens
            self.money += cost.money


class Arrival(NamedTuple):
    """A delivery that waits for intake; those of more urgent topics go first, however late they came."""

    urgency: int
    number: int
    delivery: Delivery | None
    """None only wakes who waits for arrivals."""


@dataclass(slots=True)
class Item:
    """One delivery on its way through: what it produced, once it has."""

    delivery: Delivery
    key: str | None
    produced: tuple[Message, ...] = ()
    frame: bytes = b""
    """`produced` as it will be stored; made beside the work, so that what cannot be written ends its item alone."""
    cost: Cost | None = None
    is_known: bool = False
    """Its result was durable before this delivery."""
    given_up: str = ""
    """Why it goes to the dead letters; empty for all that ends well."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """Trace context for its outputs."""
    seconds: float = 0.0

    @property
    def message(self) -> Message:
        return self.delivery.message

    @property
    def codes(self) -> dict[str, str]:
        """What log lines about it name."""
        codes = {"run": self.message.context.run, "key": self.key or ""}
        parent = (self.trace or self.message.trace).get("traceparent", "")
        return codes | ({"trace_id": parent.split("-")[1]} if parent.count("-") == 3 else {})

    def in_context(self, products: Sequence[Product]) -> tuple[Message, ...]:
        trace = self.trace or self.message.trace
        return tuple(Message(topic=t, record=r, context=self.message.context, trace=trace) for t, r in products)
