"""Sending to Kafka: `send` returns when every delivery report of its batch has come and is good.

Called by the bus for what stages publish, by deliveries for what is put back or buried, and by redrives. The client
blocks, so it runs in threads of its own. A failed report fails the batch (`Retry`): what was sent of it goes out
again and is a repeat, which consumers expect. After an error, the next batch gets a new client.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from tracemend.adapters.kafka_clients import KafkaSettings, open_producer
from tracemend.adapters.kafka_envelope import Parcel, pairs_of
from tracemend.kit import crash_points
from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.telemetry import PUBLISH_SECONDS, PUBLISHED, Telemetry

if TYPE_CHECKING:
    from kafka import KafkaProducer

_THREADS = 4

log = structlog.get_logger(__name__)


class Publisher:
    """One producer and the threads that wait for its reports."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        telemetry: Telemetry,
        connect: Callable[[KafkaSettings], KafkaProducer] = open_producer,
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._connect = connect
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="kafka-publish")
        self._lock = threading.Lock()
        self._producer: KafkaProducer | None = None
        self._is_closed = False

    async def send(self, parcels: Sequence[Parcel]) -> None:
        """Durable when it returns; `Retry` where that cannot be had now, `SetupError` where it never will."""
        if self._is_closed:
            raise Retry("the bus is closed")
        started_s = time.monotonic()
        numbers = Counter(parcel.topic for parcel in parcels)
        outcome = "failed"
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._send, parcels)
            outcome = "ok"
        finally:
            self._telemetry.observe(PUBLISH_SECONDS, time.monotonic() - started_s)
            for topic, number in numbers.items():
                self._telemetry.count(PUBLISHED, number, topic=topic, outcome=outcome)

    async def aclose(self) -> None:
        """Wait for batches under way and disconnect."""
        self._is_closed = True
        await asyncio.to_thread(self._close)

    def _send(self, parcels: Sequence[Parcel]) -> None:
        from kafka.errors import KafkaError

        producer = self._connected()
        try:
            reports = [
                producer.send(
                    self._settings.named(parcel.topic),
                    value=parcel.body,
                    key=parcel.key,
                    headers=pairs_of(parcel.headers),
                )
                for parcel in parcels
            ]
            if crash_points.is_missing(crash_points.DELIVERY_REPORTS):
                return
            for report in reports:
                report.get(timeout=self._settings.delivery_timeout_s + 5)
        except KafkaError as error:
            self._failed(producer, error, sorted({parcel.topic for parcel in parcels}))

    def _connected(self) -> KafkaProducer:
        with self._lock:
            if self._producer is None:
                try:
                    self._producer = self._connect(self._settings)
                except SetupError as away:
                    raise Retry(str(away), after_s=1.0) from None
            return self._producer

    def _failed(self, producer: KafkaProducer, error: Exception, topics: Sequence[str]) -> None:
        from kafka.errors import AuthorizationError, MessageSizeTooLargeError, RecordListTooLargeError

        self._drop(producer)
        if isinstance(error, AuthorizationError):
            raise SetupError(f"Kafka lets us not write ({error}); grant WRITE on the topics of the catalogue") from None
        if isinstance(error, (MessageSizeTooLargeError, RecordListTooLargeError)):
            raise SetupError(
                f"Kafka takes no record as large as ours ({error}); raise max.message.bytes of the topics, or open the "
                "bus with a store, so that large bodies become claim checks"
            ) from None
        log.warning("publishing failed", error=type(error).__name__, topics=topics)
        raise Retry(f"kafka: {type(error).__name__}", after_s=1.0) from None

    def _drop(self, producer: KafkaProducer) -> None:
        """Leave a client that has failed: after a record that ran out of time, the sequence of its partition has a hole
        that no later record gets past. Whoever else waits on it gets an error too, and tries again."""
        with self._lock:
            is_current = self._producer is producer
            if is_current:
                self._producer = None
        if is_current:  # beside us: it waits for what is under way to arrive or to run out of time
            wait_s = self._settings.delivery_timeout_s + 5
            threading.Thread(target=_leave, args=(producer, wait_s), name="kafka-leave", daemon=True).start()

    def _close(self) -> None:
        self._threads.shutdown(wait=True)
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            _leave(producer, 5)


def _leave(producer: KafkaProducer, wait_s: float) -> None:
    """Disconnect; whoever published what is still under way has been told, or does not ask any more."""
    from kafka.errors import KafkaError

    try:
        producer.close(timeout=wait_s)
    except KafkaError as error:
        log.warning("left Kafka with records under way", error=type(error).__name__)
