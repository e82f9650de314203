"""One table says who may call what; nothing that is served may be missing from it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from tests.fuzzing import fuzz
from tests.rpc_client import plain_channel
from tests.rpc_service import FakeAudit, FakeRequests

import tracemend.api
from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.faults import Code, read_fault
from tracemend.runtime.rpc.methods import Method, methods_of
from tracemend.runtime.rpc.permissions import AUDITED, PERMISSIONS, READS_TEXT, Role
from tracemend.runtime.rpc.server import Registration, RpcServer
from tracemend.runtime.rpc.settings import RpcSettings


def services() -> list[Any]:
    """Every service in the descriptor pool of `tracemend.api`."""
    found = []
    for module in pkgutil.walk_packages(tracemend.api.__path__, "tracemend.api."):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(module.name).DESCRIPTOR
            pooled = descriptor_pool.Default().FindFileByName(file.name)
            found += list(pooled.services_by_name.values())
    return found


SERVICES = services()
METHODS = [method for service in SERVICES for method in methods_of(service)]


def test_the_table_lists_every_method_and_no_other() -> None:
    assert len(SERVICES) == 6
    assert {method.full_name for method in METHODS} == set(PERMISSIONS)
    assert set(PERMISSIONS) >= READS_TEXT
    assert set(PERMISSIONS) >= AUDITED


def test_nobody_is_let_in_by_an_empty_or_all_embracing_entry() -> None:
    assert [name for name, roles in PERMISSIONS.items() if not roles or roles == frozenset(Role)] == [
        name for name in PERMISSIONS if "/Describe" in name
    ]


def test_text_is_for_reviewers_and_services_alone() -> None:
    for name in READS_TEXT:
        assert PERMISSIONS[name] <= {Role.REVIEWER, Role.SERVICE}
    readers = {name for name, roles in PERMISSIONS.items() if Role.REVIEWER in roles}
    assert {name for name in readers if "/Describe" not in name} == READS_TEXT


def test_methods_whose_replies_hold_records_with_words_are_known_to_show_text() -> None:
    """Found in the descriptors: a reply in which a prompt, trajectory or verdict stands as a whole record."""
    worded = {f"tracemend.api.records.v1.{name}" for name in ("Prompt", "Trajectory", "Verdict", "Group", "Outcome")}

    def holds(descriptor: Any, seen: frozenset[str] = frozenset()) -> bool:
        if descriptor.full_name in worded:
            return True
        if descriptor.full_name in seen:
            return False
        inner = [field.message_type for field in descriptor.fields if field.message_type]
        return any(holds(one, seen | {descriptor.full_name}) for one in inner)

    assert {method.full_name for method in METHODS if holds(method.response.DESCRIPTOR)} <= READS_TEXT


def test_what_changes_things_names_its_requests() -> None:
    for method in METHODS:
        if method.full_name in AUDITED:
            assert method.has_request_id, method.full_name
        if method.is_reading:
            assert not method.has_request_id, method.full_name


class Empty:
    """Answers every method of every service with an empty message."""

    def __init__(self, service: Any) -> None:
        for method in methods_of(service):
            setattr(self, method.name, self._stream(method) if method.streams_responses else self._answer(method))

    @staticmethod
    def _answer(method: Method) -> Any:
        async def answer(_request: Any, _call: Call) -> Any:
            return method.response()

        return answer

    @staticmethod
    def _stream(method: Method) -> Any:
        async def answer(_request: Any, _call: Call) -> AsyncIterator[Any]:
            yield method.response()

        return answer


async def serve(role: Role) -> RpcServer:
    """All services, to callers that have just this role."""
    settings = RpcSettings(listen="127.0.0.1:0", anonymous_roles=frozenset({role}))
    registrations = [Registration(service=service, servicer=Empty(service)) for service in SERVICES]
    server = RpcServer(settings, registrations, requests=FakeRequests(), audit=FakeAudit())
    await server.start()
    return server


async def ends(channel: Any, method: Method) -> str:
    from grpc import aio
    from tests.rpc_client import start

    started = start(channel, method, [b""], within_s=5, x_tracemend_purpose="a test of the table")
    try:
        await (started.read() if method.streams_responses else started)
    except aio.AioRpcError as error:
        return read_fault(error).code
    return "OK"


@pytest.mark.parametrize("role", list(Role))
async def test_every_method_is_refused_to_every_role_that_the_table_does_not_give_it(role: Role) -> None:
    server = await serve(role)
    async with plain_channel(server.port) as channel:
        codes = {method.full_name: await ends(channel, method) for method in METHODS}
    await server.drain(0)
    assert {name for name, code in codes.items() if code != Code.PERMISSION_DENIED} == {
        name for name, roles in PERMISSIONS.items() if role in roles
    }
    assert set(codes.values()) <= {"OK", Code.PERMISSION_DENIED}


async def test_bytes_thrown_at_every_method_of_the_protos_find_no_bug() -> None:
    server = await serve(Role.SERVICE)
    async with plain_channel(server.port) as channel:
        counts = await fuzz(channel, METHODS, number=2000, seed=11)
    await server.drain(0)
    assert {name.partition(":")[0] for name in counts} == {method.name for method in METHODS}
