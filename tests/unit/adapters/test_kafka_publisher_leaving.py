"""A client that has failed is left behind, whatever it says when it is closed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from tracemend.adapters.kafka_clients import settings_of
from tracemend.adapters.kafka_envelope import Parcel
from tracemend.adapters.kafka_publisher import Publisher
from tracemend.kit.errors import Retry
from tracemend.kit.telemetry import NO_TELEMETRY

PARCEL = Parcel(topic="things", key=b"1", body=b"one", headers={})


@dataclass
class Sent:
    """A delivery report."""

    is_late: bool

    def get(self, timeout: float) -> None:
        if self.is_late:
            raise KafkaTimeoutError("no report")


@dataclass
class Client:
    """A producer whose records do not get through, and which does not close because of them."""

    is_stuck: bool
    closed: threading.Event = field(default_factory=threading.Event)

    def send(self, topic: str, **record: Any) -> Sent:
        return Sent(is_late=self.is_stuck)

    def close(self, timeout: float) -> None:
        self.closed.set()
        if self.is_stuck:
            raise KafkaTimeoutError("Timeout waiting for future")


async def test_what_does_not_get_through_is_put_off_and_the_next_client_is_asked() -> None:
    clients = [Client(is_stuck=True), Client(is_stuck=False)]
    waiting = iter(clients)
    publisher = Publisher(
        settings_of("kafka:localhost:9"),
        telemetry=NO_TELEMETRY,
        connect=lambda _: next(waiting),  # type: ignore[arg-type, return-value]  # what is asked of a producer here
    )
    with pytest.raises(Retry, match="KafkaTimeoutError"):
        await publisher.send([PARCEL])
    await publisher.send([PARCEL])
    assert clients[0].closed.wait(5)
    await publisher.aclose()


async def test_a_client_that_does_not_close_keeps_nobody_from_stopping() -> None:
    client = Client(is_stuck=True)
    publisher = Publisher(
        settings_of("kafka:localhost:9"),
        telemetry=NO_TELEMETRY,
        connect=lambda _: client,  # type: ignore[arg-type, return-value]  # as above
    )
    client.is_stuck = False
    await publisher.send([PARCEL])
    client.is_stuck = True
    await publisher.aclose()
    assert client.closed.is_set()
