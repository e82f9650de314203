"""Every option that safety depends on, read back from real clients of the one factory."""

from __future__ import annotations

from tests.needs import needs_server

from tracemend.adapters.kafka_clients import KafkaSettings, open_consumer, open_producer, settings_of

PRODUCER = {
    "enable_idempotence": True,
    "acks": -1,  # all
    "retries": 2**31 - 1,
    "max_in_flight_requests_per_connection": 5,
    "delivery_timeout_ms": 60_000,
    "request_timeout_ms": 20_000,
    "max_block_ms": 20_000,
    "allow_auto_create_topics": False,
}
CONSUMER = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",
    "max_poll_interval_ms": 300_000,
    "session_timeout_ms": 30_000,
    "heartbeat_interval_ms": 3_000,
    "request_timeout_ms": 20_000,
    "max_poll_records": 500,
    "check_crcs": True,
    "allow_auto_create_topics": False,
    "group_id": "team.judge",
}


def settings() -> KafkaSettings:
    return settings_of(f"kafka:{needs_server('KAFKA_BOOTSTRAP_SERVERS')}?namespace=team")


def test_a_producer_has_every_option_that_keeps_records() -> None:
    producer = open_producer(settings())
    try:
        assert {name: producer.config[name] for name in PRODUCER} == PRODUCER
        assert producer._metadata.config["allow_auto_create_topics"] is False
    finally:
        producer.close()


def test_a_consumer_has_every_option_that_keeps_places() -> None:
    consumer = open_consumer(settings(), group="judge")
    try:
        assert {name: consumer.config[name] for name in CONSUMER} == CONSUMER
        assignors = [assignor.name for assignor in consumer.config["partition_assignment_strategy"]]
        assert assignors == ["cooperative-sticky"]
    finally:
        consumer.close(autocommit=False)
