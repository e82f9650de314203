"""The `memory:` bus: topics with consumer groups inside one event loop, for embedded runs and tests.

Opened by `runtime`. Every publish encodes through the wire codec and every delivery decodes afresh, so what would not
survive Kafka does not survive the laptop, and no two consumers share an object. Queues are unbounded: only admission
bounds what is in flight. A group exists from its first subscription on and keeps its queue when its members leave.
All methods belong to one event loop; nothing is durable beyond the process, the ledger republishes what was lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tracemend.kit.errors import Retry
from tracemend.kit.ports import Message
from tracemend.topics import Topic
from tracemend.wire import WireCodec


class MemoryBus:
    """`kit.ports.Bus` over `asyncio`."""

    def __init__(self, codec: WireCodec) -> None:
        self._codec = codec
        self._groups: dict[str, _Group] = {}
        self._num_open = 0
        self._idle = asyncio.Event()
        self._is_closed = False

    def subscribe(self, topics: Sequence[Topic], *, group: str) -> MemorySubscription:
        """A new member of `group`; of its topics, the first that has something is served first."""
        if self._is_closed:
            raise Retry("the bus is closed")
        members = self._groups.setdefault(group, _Group(self))
        subscription = MemorySubscription(members, tuple(topics), self._codec)
        members.join(subscription)
        return subscription

    async def publish(self, messages: Sequence[Message]) -> None:
        """All or nothing: a message that cannot be encoded keeps back the whole batch (`Reject`)."""
        if self._is_closed:
            raise Retry("the bus is closed")
        encoded = [(message, self._codec.encode_message(message)) for message in messages]
        for message, content in encoded:
            for group in self._groups.values():
                if message.topic.name in group.queues:
                    self._num_open += 1
                    group.push(_Entry(message.topic, content, message.trace, group))
        await asyncio.sleep(0)  # lets readers run between the batches of a publisher that never waits otherwise

    async def drained(self) -> None:
        while self._num_open:
            if self._is_closed:
                raise Retry(f"the bus was closed with {self._num_open} messages unfinished")
            self._idle.clear()
            await self._idle.wait()

    async def aclose(self) -> None:
        """End every subscription; what was not acknowledged is gone."""
        self._is_closed = True
        for group in self._groups.values():
            group.close()
        self._idle.set()

    def settle(self) -> None:
        """An entry of some group has been acknowledged."""
        self._num_open -= 1
        if not self._num_open:
            self._idle.set()


class _Entry:
    """One message for one group, until somebody acknowledges it."""

    __slots__ = ("content", "group", "holder", "is_done", "topic", "trace")

    def __init__(self, topic: Topic, content: bytes, trace: Mapping[str, str], group: _Group) -> None:
        self.topic = topic
        self.content = content
        self.trace = dict(trace)
        self.group = group
        self.holder: MemoryDelivery | None = None
        self.is_done = False


class _Group:
    """The queues and members of one consumer group."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.queues: dict[str, deque[_Entry]] = {}
        self.members: list[MemorySubscription] = []
        self.timers: set[asyncio.TimerHandle] = set()

    def join(self, member: MemorySubscription) -> None:
        self.members.append(member)
        for topic in member.topics:
            self.queues.setdefault(topic.name, deque())

    def push(self, entry: _Entry, *, first: bool = False) -> None:
        entry.holder = None
        queue = self.queues[entry.topic.name]
        if first:
            queue.appendleft(entry)
        else:
            queue.append(entry)
        for member in self.members:
            member.wake()

    def push_later(self, entry: _Entry, delay_s: float) -> None:
        def push() -> None:
            self.timers.discard(timer)
            self.push(entry)

        entry.holder = None
        timer = asyncio.get_running_loop().call_later(delay_s, push)
        self.timers.add(timer)

    def pop(self, topics: Sequence[Topic]) -> _Entry | None:
        """The next entry of the most urgent topic that has one."""
        for topic in topics:
            queue = self.queues[topic.name]
            while queue:
                entry = queue.popleft()
                if not entry.is_done:  # a member that left may have acknowledged it since it came back
                    return entry
        return None

    def close(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        for member in tuple(self.members):
            member.end()


class MemoryDelivery:
    """`kit.ports.Delivery`: one message in the hands of one member."""

    __slots__ = ("_entry", "_subscription", "message")

    def __init__(self, entry: _Entry, message: Message, subscription: MemorySubscription) -> None:
        self._entry = entry
        self._subscription = subscription
        self.message = message
        entry.holder = self

    async def ack(self) -> None:
        """Final whoever holds the message now; a second one does nothing."""
        self._subscription.release(self._entry)
        if not self._entry.is_done:
            self._entry.is_done = True
            self._entry.group.bus.settle()

    async def nack(self, *, delay_s: float) -> None:
        """Does nothing once the message is acknowledged or in other hands."""
        entry = self._entry
        if entry.is_done or entry.holder is not self:
            return
        self._subscription.release(entry)
        entry.group.push_later(entry, delay_s)

    async def bury(self, *, reason: str) -> None:
        """There is no grave here: the ledger has the record's end, and the message goes with the process anyway."""
        await self.ack()


class MemorySubscription:
    """`kit.ports.Subscription`: one member of a group. Several tasks may iterate it; each message reaches one."""

    def __init__(self, group: _Group, topics: tuple[Topic, ...], codec: WireCodec) -> None:
        self.topics = topics
        self._group = group
        self._codec = codec
        self._held: dict[_Entry, None] = {}
        self._news = asyncio.Event()
        self._is_closed = False

    def __aiter__(self) -> MemorySubscription:
        return self

    async def __anext__(self) -> MemoryDelivery:
        while not self._is_closed:
            entry = self._group.pop(self.topics)
            if entry is not None:
                self._held[entry] = None
                message = self._codec.decode_message(entry.content, entry.topic)
                return MemoryDelivery(entry, replace(message, trace=entry.trace) if entry.trace else message, self)
            self._news.clear()
            await self._news.wait()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Leave the group: what this member holds unacknowledged goes back to the head of its queues, in order."""
        if self._is_closed:
            return
        self.end()
        for entry in reversed(self._held):
            self._group.push(entry, first=True)
        self._held.clear()

    def end(self) -> None:
        """Stop iteration and take no more."""
        self._is_closed = True
        self._group.members.remove(self)
        self.wake()

    def wake(self) -> None:
        self._news.set()

    def release(self, entry: _Entry) -> None:
        self._held.pop(entry, None)


class MemoryTopics:
    """`kit.bus_ports.TopicKeeper` where every topic is there as soon as somebody asks for it."""

    async def differences(self, topics: Sequence[Topic]) -> Sequence[str]:
        return ()

    async def apply(self, topics: Sequence[Topic]) -> Sequence[str]:
        return ()

    async def check(self, topics: Sequence[Topic]) -> None:
        return

    async def aclose(self) -> None:
        return
