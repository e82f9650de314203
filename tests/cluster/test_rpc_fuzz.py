"""The six composed programs refuse whoever may not call, and survive whatever bytes they are called with.

TRACEMEND_FUZZ is how many calls are thrown at each service, 1,000 where it is unset.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.cluster.spine import SERVICES, Spine
from tests.fuzzing import fuzz
from tests.rpc_client import plain_channel, start
from tests.unit.runtime.test_rpc_permissions import METHODS

from tracemend.runtime.rpc.methods import Method
from tracemend.runtime.rpc.permissions import PERMISSIONS, Role

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1800)]

NUMBER = int(os.environ.get("TRACEMEND_FUZZ", "1_000"))
PEOPLE = [role for role in Role if role is not Role.SERVICE]
_READY_S = 180.0


def methods_of_service(service: str) -> list[Method]:
    return [method for method in METHODS if method.service == f"tracemend.api.{service}.v1.{service.title()}Service"]


async def until_served(spine: Spine, service: str) -> None:
    """Wait until the service's gRPC port answers."""
    async with plain_channel(spine.ports[service]) as channel, asyncio.timeout(_READY_S):
        await channel.channel_ready()


async def status_of(channel: Any, method: Method, role: Role) -> grpc.StatusCode:
    """How a call with an empty message ends; OK also for a stream that goes on."""
    told = {"x_tracemend_purpose": "a test of the table", "authorization": f"Bearer token-of-{role.value}"}
    call = start(channel, method, [b""], within_s=10, **told)
    try:
        if method.streams_responses and await call.read() is not grpc.aio.EOF:
            return grpc.StatusCode.OK
    except grpc.aio.AioRpcError as error:
        return error.code()
    return await call.code()  # of a stream that ended without a word, too


def tokens_file(folder: Path) -> Path:
    """A token for each role that people may have."""
    entries = [
        {"name": role.value, "sha256": hashlib.sha256(f"token-of-{role.value}".encode()).hexdigest()}
        | {"roles": [role.value]}
        for role in PEOPLE
    ]
    file = folder / "tokens.yaml"
    file.write_text(json.dumps(entries), encoding="utf-8")
    return file


def test_every_method_of_every_program_is_denied_to_who_may_not_call_it(tmp_path: Path) -> None:
    async def check() -> None:
        tokens = str(tokens_file(tmp_path))
        ends: dict[tuple[Role, str], grpc.StatusCode] = {}
        async with Spine.on_servers(
            tmp_path, TRACEMEND_RPC_TOKENS_FILE=tokens, TRACEMEND_RPC_ANONYMOUS_ROLES="[]"
        ) as spine:
            spine.start_all()
            for service in SERVICES:
                await until_served(spine, service)
                async with plain_channel(spine.ports[service]) as channel:
                    for role, method in itertools.product(PEOPLE, methods_of_service(service)):
                        ends[role, method.full_name] = await status_of(channel, method, role)
        assert {name for _, name in ends} == PERMISSIONS.keys()
        assert grpc.StatusCode.UNAUTHENTICATED not in ends.values()
        denied = {asked for asked, status in ends.items() if status is grpc.StatusCode.PERMISSION_DENIED}
        assert denied == {(role, name) for name, roles in PERMISSIONS.items() for role in PEOPLE if role not in roles}

    asyncio.run(check())


def test_bytes_thrown_at_the_composed_programs_find_no_bug_and_end_none(tmp_path: Path) -> None:
    async def check() -> None:
        async with Spine.on_servers(tmp_path, TRACEMEND_RPC_ANONYMOUS_ROLES=f"[{Role.SERVICE.value}]") as spine:
            spine.start_all()
            for service in SERVICES:
                await until_served(spine, service)
                async with plain_channel(spine.ports[service]) as channel:
                    counts = await fuzz(channel, methods_of_service(service), number=NUMBER, seed=23)
                assert {name.partition(":")[0] for name in counts} == {m.name for m in methods_of_service(service)}
            assert {name: process.poll() for name, process in spine.processes.items()} == dict.fromkeys(SERVICES)

    asyncio.run(check())
