"""The bus as services see it: requests for the target go to the topics of the target that the plan names.

`GENERATIONS` and `CONTINUATIONS` exist once per served target. Stages publish the plain topics, since no stage knows
what is served where; this wrapper, which every program publishes through, puts the target's own in their place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tracemend.kit.ports import Bus, Message, Subscription
from tracemend.programs.plans import Plans, served_name
from tracemend.topics import CONTINUATIONS, GENERATIONS, Topic, for_target, of_targets

_PER_TARGET = (CONTINUATIONS, GENERATIONS)


def topics_of(target: str) -> tuple[Topic, ...]:
    """What the generator of `target` reads, most urgent first."""
    return of_targets([target], _PER_TARGET)


class RoutedBus:
    """`kit.ports.Bus` over another one."""

    def __init__(self, bus: Bus, plans: Plans) -> None:
        self._bus = bus
        self._plans = plans

    def subscribe(self, topics: Sequence[Topic], *, group: str) -> Subscription:
        return self._bus.subscribe(topics, group=group)

    async def publish(self, messages: Sequence[Message]) -> None:
        await self._bus.publish([await self._routed(message) for message in messages])

    async def drained(self) -> None:
        await self._bus.drained()

    async def aclose(self) -> None:
        await self._bus.aclose()

    async def _routed(self, message: Message) -> Message:
        if message.topic not in _PER_TARGET:
            return message
        plan = await self._plans.get(message.context.plan)
        name = for_target(message.topic, served_name(plan.run.target))
        return dataclasses.replace(message, topic=dataclasses.replace(message.topic, name=name))
