"""The generator between topics: requests in, trajectories out; continuations go before fresh prompts."""

from __future__ import annotations

from collections.abc import Sequence

from tracemend.generator.service import Generator, dead_trajectory
from tracemend.kit.ports import Cost, Message
from tracemend.kit.stage import Produced
from tracemend.topics import CONTINUATIONS, GENERATIONS, TRAJECTORIES


class GeneratorStage:
    """Samples what it is asked for. The work key is the request's id."""

    name = "generator"
    inputs = (CONTINUATIONS, GENERATIONS)

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    async def prepare(self, messages: Sequence[Message]) -> None:
        return

    def key(self, message: Message) -> str:
        return str(message.record.id)

    async def work(self, message: Message) -> Produced:
        trajectory = await self._generator.generate(message.record)
        cost = Cost(
            stage=self.name,
            num_items=1,
            num_prompt_tokens=trajectory.num_prompt_tokens,
            num_cached_tokens=trajectory.num_cached_tokens,
            num_new_tokens=trajectory.num_new_tokens,
            seconds=trajectory.seconds,
            money=trajectory.money,
        )
        return Produced(messages=(Message(topic=TRAJECTORIES, record=trajectory, context=message.context),), cost=cost)

    async def follow(self, messages: Sequence[Message]) -> Sequence[Message]:
        return ()

    def dead(self, message: Message, reason: str) -> Sequence[Message]:
        return (Message(topic=TRAJECTORIES, record=dead_trajectory(message.record), context=message.context),)
