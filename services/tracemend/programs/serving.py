"""The gRPC face of a program: its servicers behind one server, which opens last and closes first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracemend.programs.parts import Parts
from tracemend.runtime.program import Phase, Program
from tracemend.runtime.program_settings import ProgramSettings
from tracemend.runtime.rpc.server import Registration, RpcServer


async def open_face(
    settings: ProgramSettings, program: Program[Any], parts: Parts, registrations: Sequence[Registration]
) -> RpcServer:
    """Serve `registrations` until `program` drains; then clients are told to go elsewhere before work is given back."""
    server = RpcServer(
        settings.rpc,
        registrations,
        requests=parts.tables.requests,
        leases=parts.tables.leases,
        audit=parts.tables.audit,
        telemetry=program.telemetry,
    )
    await server.start()

    async def refuse(_left_s: float) -> None:
        await server.set_serving(False)

    program.on_drain(Phase.REFUSE, "gRPC health", refuse)
    program.on_drain(Phase.FINISH, "gRPC calls", server.drain)
    return server
