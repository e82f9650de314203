"""Names of span attributes, in one place, because the conventions that they follow are still moving.

OpenTelemetry semantic conventions, as of the version below: messaging and generative AI are marked development there,
RPC release candidate. Content of prompts and completions has attributes in those conventions too; we never set them.
"""

from __future__ import annotations

from typing import Final

CONVENTION: Final = "1.41.0"
"""Version of the semantic conventions that the names below are of."""
SCHEMA_URL: Final = f"https://opentelemetry.io/schemas/{CONVENTION}"

SERVICE_NAME: Final = "service.name"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE: Final = "service.instance.id"
ERROR_TYPE: Final = "error.type"

_NAMES: Final = {
    # Ours, without a convention.
    "run": "tracemend.run",
    "stage": "tracemend.stage",
    "key": "tracemend.work_key",
    "attempt": "tracemend.attempt",
    "outcome": "tracemend.outcome",
    "reason": "tracemend.reason",
    # Messaging.
    "system": "messaging.system",
    "topic": "messaging.destination.name",
    "group": "messaging.consumer.group.name",
    "partition": "messaging.destination.partition.id",
    "offset": "messaging.kafka.offset",
    "num_messages": "messaging.batch.message_count",
    "messaging_operation": "messaging.operation.name",
    # RPC.
    "rpc_system": "rpc.system.name",
    "method": "rpc.method",
    "code": "rpc.response.status_code",
    "peer": "server.address",
    # Stores and databases.
    "op": "db.operation.name",
    "database": "db.system.name",
    "num_bytes": "tracemend.num_bytes",
    # Generative AI.
    "gen_ai_operation": "gen_ai.operation.name",
    "model": "gen_ai.request.model",
}


def attribute(name: str) -> str:
    """The attribute that `Telemetry.span` records a keyword under: the convention's, else `tracemend.<keyword>`."""
    return _NAMES.get(name, f"tracemend.{name}")
