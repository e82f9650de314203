"""The gRPC server of a service: listeners, health, and an orderly end.

Programs make one `RpcServer` from their settings and registrations, `start` it once everything behind it answers, and
`drain` it on SIGTERM. Invariants: every method of every registered service is served through the standard chain;
health says NOT_SERVING before calls are refused; a drain returns when no handler is left running.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracemend.kit.errors import SetupError
from tracemend.kit.server_ports import AuditLog, Leases, Requests
from tracemend.kit.telemetry import CERTIFICATE_EXPIRY, NO_TELEMETRY, Telemetry
from tracemend.runtime.rpc.certificates import seconds_left, server_credentials
from tracemend.runtime.rpc.chain import Proceed, Running, chained, rpc_handler, serving
from tracemend.runtime.rpc.interceptors import standard
from tracemend.runtime.rpc.listeners import HealthListener, serve_health, server_options
from tracemend.runtime.rpc.methods import Method, methods_of
from tracemend.runtime.rpc.permissions import ACCESS, Access
from tracemend.runtime.rpc.settings import RpcSettings, ServerTls
from tracemend.runtime.rpc.validators import Validators

_LOOK_EVERY_S = 60.0
"""How old the certificate's remaining time may be."""
_GIVE_UP_S = 5.0
"""How long handlers have to end once they are cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A service and what answers for it."""

    service: Any
    """The protobuf `ServiceDescriptor`: `judge_service_pb2.DESCRIPTOR.services_by_name["JudgeService"]`."""
    servicer: object
    """Has a coroutine method, or an asynchronous generator where responses are streamed, for each rpc."""
    validators: Validators = field(default_factory=dict)


class RpcServer:
    """One service process's gRPC face."""

    def __init__(
        self,
        settings: RpcSettings,
        registrations: Sequence[Registration],
        *,
        requests: Requests | None = None,
        leases: Leases | None = None,
        audit: AuditLog | None = None,
        telemetry: Telemetry = NO_TELEMETRY,
        access: Access = ACCESS,
    ) -> None:
        self._settings = settings
        self._registrations = tuple(registrations)
        self._running = Running()
        self._server: Any = None
        self._telemetry = telemetry
        self._watch: asyncio.Task[None] | None = None
        self._health: Any = None
        self._health_listener: HealthListener | None = None
        self.port = 0
        """Of `settings.listen`, once started."""
        self.peer_port = 0
        self.health_port = 0
        validators = {name: v for one in self._registrations for name, v in one.validators.items()}
        methods = [method for one in self._registrations for method in methods_of(one.service)]
        _check(methods, requests)
        self._interceptors = standard(
            settings,
            access=access,
            validators=validators,
            requests=requests,
            leases=leases,
            audit=audit,
            telemetry=telemetry,
        )

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of what is served."""
        return tuple(one.service.full_name for one in self._registrations)

    async def start(self) -> None:
        """Open the listeners and say SERVING; `SetupError` for an address that cannot be had or a bad certificate."""
        from grpc import aio
        from grpc_health.v1 import health, health_pb2_grpc

        self._health = health.aio.HealthServicer()
        self._server = aio.server(
            options=server_options(self._settings), maximum_concurrent_rpcs=self._settings.max_concurrent_calls
        )
        for one in self._registrations:
            self._server.add_generic_rpc_handlers((self._handlers(one),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self._settings.reflection:
            self._reflect()
        self._listen()
        await self._server.start()
        if self._settings.health_listen:
            self._health_listener = await serve_health(self._settings.health_listen, self._health)
            self.health_port = self._health_listener.port
        if self._settings.tls is not None:
            self._watch = asyncio.create_task(self._watch_certificate(self._settings.tls))
        await self.set_serving(True)

    async def set_serving(self, is_serving: bool, *, service: str = "") -> None:
        """What health checks hear of `service`, or of all and of the server as a whole."""
        from grpc_health.v1 import health_pb2

        status = health_pb2.HealthCheckResponse.SERVING if is_serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in (service,) if service else ("", *self.services):
            await self._health.set(name, status)

    async def drain(self, grace_s: float) -> None:
        """Say NOT_SERVING, refuse new calls, let those under way end within `grace_s`, end the rest, close."""
        if self._server is None:
            return
        if self._watch is not None:
            self._watch.cancel()
        await self._health.enter_graceful_shutdown()
        self._running.drain()
        await self._server.stop(grace_s)
        try:
            await asyncio.wait_for(self._running.finished(), _GIVE_UP_S)
        finally:
            if self._health_listener is not None:
                await self._health_listener.close()

    async def _watch_certificate(self, tls: ServerTls) -> None:
        while True:
            with contextlib.suppress(OSError, ValueError):  # half-way through a rotation; the next look tells
                self._telemetry.gauge(CERTIFICATE_EXPIRY, seconds_left(tls))
            await asyncio.sleep(_LOOK_EVERY_S)

    def _handlers(self, registration: Registration) -> Any:
        import grpc

        handlers = {m.name: self._handler(m, registration.servicer) for m in methods_of(registration.service)}
        return grpc.method_handlers_generic_handler(registration.service.full_name, handlers)

    def _handler(self, method: Method, servicer: object) -> Any:
        work = getattr(servicer, method.name)
        proceed: Proceed = chained(self._interceptors, serving(method, work))
        return rpc_handler(method, proceed, self._running)

    def _listen(self) -> None:
        tls = self._settings.tls
        if tls is None:
            self.port = _bound(lambda: self._server.add_insecure_port(self._settings.listen), self._settings.listen)
            return
        is_shared = not self._settings.peer_listen
        main = server_credentials(tls, asks_for_certificate=is_shared and tls.client_ca_file is not None)
        self.port = _bound(lambda: self._server.add_secure_port(self._settings.listen, main), self._settings.listen)
        if self._settings.peer_listen:
            address, peers = self._settings.peer_listen, server_credentials(tls, asks_for_certificate=True)
            self.peer_port = _bound(lambda: self._server.add_secure_port(address, peers), address)

    def _reflect(self) -> None:
        from grpc_health.v1 import health
        from grpc_reflection.v1alpha import reflection

        names = (*self.services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)


def _bound(bind: Callable[[], int], address: str) -> int:
    try:
        return bind()
    except RuntimeError:
        raise SetupError(f"cannot listen on {address}: it is in use or is no address of this machine") from None


def _check(methods: Sequence[Method], requests: Requests | None) -> None:
    """What the registered methods need must be there, or promises of the protos would be broken quietly."""
    for method in methods:
        if requests is None and method.has_request_id and method.is_unary and not method.is_reading:
            raise SetupError(f"{method.full_name} promises one effect per request_id: give the server its requests")
