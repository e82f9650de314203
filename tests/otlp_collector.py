"""A collector of OpenTelemetry traces on loopback: what services export by OTLP, as it came over the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from grpc import aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc


@dataclass
class Collector:
    """Keeps every export."""

    address: str = ""
    exports: list[bytes] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    """`service.name` of whoever exported."""
    num_spans: int = 0

    async def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 - gRPC's name
        self.exports.append(request.SerializeToString())
        for resource in request.resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(names.get("service.name", ""))
            self.num_spans += sum(len(scope.spans) for scope in resource.scope_spans)
        return pb.ExportTraceServiceResponse()

    @property
    def environment(self) -> dict[str, str]:
        """What makes a service export here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{self.address}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_BSP_SCHEDULE_DELAY": "500",
        }


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector on a free port, down again at the end."""
    collector, server = Collector(), aio.server(options=(("grpc.max_receive_message_length", 2**26),))
    pb_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call] # generated code
    collector.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(1)
