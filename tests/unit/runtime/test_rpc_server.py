"""Listeners, certificates, health and the end of a server, and channels that find their way to it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.certificates import Authority, Issued
from tests.rpc_client import call, fault, plain_channel, start
from tests.rpc_service import ACCESS, METHODS, SERVICE, FakeRequests, Thing, ThingServicer, registration

from tracemend.kit.errors import Retry, SetupError
from tracemend.runtime.rpc.call import CURRENT, Call
from tracemend.runtime.rpc.certificates import seconds_left
from tracemend.runtime.rpc.channel import ServiceChannel, open_channel
from tracemend.runtime.rpc.channel_options import service_config
from tracemend.runtime.rpc.faults import Code
from tracemend.runtime.rpc.permissions import Role
from tracemend.runtime.rpc.server import RpcServer
from tracemend.runtime.rpc.settings import ChannelSettings, ClientTls, RpcSettings, ServerTls

OPEN = RpcSettings(listen="127.0.0.1:0", anonymous_roles=frozenset({Role.SUBMITTER}))
GET = METHODS["GetThing"]


@asynccontextmanager
async def running(settings: RpcSettings, servicer: ThingServicer | None = None) -> AsyncIterator[RpcServer]:
    server = RpcServer(settings, [registration(servicer or ThingServicer())], requests=FakeRequests(), access=ACCESS)
    await server.start()
    try:
        yield server
    finally:
        await server.drain(0)


@asynccontextmanager
async def connected(port: int, settings: ChannelSettings) -> AsyncIterator[ServiceChannel]:
    async with open_channel(f"127.0.0.1:{port}", settings, services=[SERVICE]) as channel:
        yield channel


async def until(what: Callable[[], bool]) -> None:
    for _ in range(200):
        if what():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come to be in ten seconds")


def server_tls(authority: Authority, issued: Issued, **changes: Any) -> RpcSettings:
    tls = ServerTls(cert_file=issued.cert_file, key_file=issued.key_file, client_ca_file=authority.ca_file)
    return RpcSettings(listen="127.0.0.1:0", tls=tls, **changes)


def client_tls(authority: Authority, own: Issued | None = None) -> ChannelSettings:
    own_files = {"cert_file": own.cert_file, "key_file": own.key_file} if own else {}
    return ChannelSettings(tls=ClientTls(ca_file=authority.ca_file, **own_files))


async def health_of(port: int, service: str = "") -> str:
    async with plain_channel(port) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def test_a_service_is_known_by_its_certificate(tmp_path: Path) -> None:
    authority, servicer = Authority(tmp_path), ThingServicer()
    settings = server_tls(authority, authority.issue("generator"))
    async with running(settings, servicer) as server:
        async with connected(server.port, client_tls(authority, authority.issue("judge"))) as channel:
            await call(channel, GET, Thing(name="a"))
        assert servicer.told[0][:2] == ("judge", frozenset({Role.SERVICE}))
        for settings_of_strangers in (
            client_tls(authority),
            client_tls(authority, Authority(tmp_path / "else").issue("judge")),
        ):
            async with connected(server.port, settings_of_strangers) as channel:
                assert (await fault(channel, GET, Thing(name="a"), within_s=3)).code in (
                    Code.UNAVAILABLE,
                    Code.DEADLINE_EXCEEDED,
                )


async def test_a_certificate_of_another_name_is_no_service(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        running(server_tls(authority, authority.issue("generator"), peer_names=("judge", "corrector"))) as server,
        connected(server.port, client_tls(authority, authority.issue("console"))) as channel,
    ):
        assert (await fault(channel, GET, Thing(name="a"))).reason == "BAD_CREDENTIALS"


async def test_people_and_services_have_listeners_of_their_own(tmp_path: Path) -> None:
    authority, servicer = Authority(tmp_path), ThingServicer()
    settings = server_tls(authority, authority.issue("generator"), peer_listen="127.0.0.1:0")
    async with running(settings, servicer) as server:
        async with connected(server.port, client_tls(authority)) as channel:
            assert (await fault(channel, GET, Thing(name="a"))).reason == "NO_CREDENTIALS"
        async with connected(server.peer_port, client_tls(authority, authority.issue("judge"))) as channel:
            await call(channel, GET, Thing(name="a"))
        assert [name for name, *_ in servicer.told] == ["judge"]


async def test_new_certificates_are_taken_up_without_a_restart(tmp_path: Path) -> None:
    """The authority itself is exchanged: whoever trusts the new one only gets through after the rotation, on both
    sides, and a pair that does not fit together changes nothing."""
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    live, ca_file = old.issue("generator", file="live"), tmp_path / "ca.pem"
    shutil.copy(old.ca_file, ca_file)
    settings = RpcSettings(
        listen="127.0.0.1:0",
        tls=ServerTls(cert_file=live.cert_file, key_file=live.key_file),
        anonymous_roles=frozenset({Role.SUBMITTER}),
    )
    async with running(settings) as server:
        long_lived = ChannelSettings(tls=ClientTls(ca_file=ca_file))
        async with connected(server.port, long_lived) as channel:
            await call(channel, GET, Thing(name="a"))
            issued = new.issue("generator")
            shutil.copy(issued.cert_file, live.cert_file)
            await asyncio.sleep(1.1)
            async with connected(server.port, client_tls(old)) as half_way:
                await call(half_way, GET, Thing(name="a"))
            shutil.copy(issued.key_file, live.key_file)
            shutil.copy(new.ca_file, ca_file)
            await asyncio.sleep(1.1)
            await call(channel, GET, Thing(name="a"))
            async with connected(server.port, client_tls(new)) as fresh:
                await call(fresh, GET, Thing(name="a"))
            async with connected(server.port, client_tls(old)) as stale:
                assert (await fault(stale, GET, Thing(name="a"), within_s=3)).code is not Code.INTERNAL


def test_a_key_that_is_not_the_certificates_is_told_at_start(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.issue("one"), authority.issue("other")
    mixed = Issued(cert_file=one.cert_file, key_file=other.key_file)
    server = RpcServer(
        server_tls(authority, mixed), [registration(ThingServicer())], requests=FakeRequests(), access=ACCESS
    )
    with pytest.raises(SetupError, match="is not the key of"):
        asyncio.run(server.start())


async def test_with_certificates_on_probes_speak_plaintext_to_a_port_that_serves_nothing_else(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with running(server_tls(authority, authority.issue("judge"), health_listen="127.0.0.1:0")) as server:
        assert await health_of(server.health_port) == "SERVING"
        async with plain_channel(server.health_port) as channel:
            assert (await fault(channel, GET, Thing(name="a"))).code is Code.UNIMPLEMENTED


def test_how_long_a_certificate_is_good_for_can_be_asked(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("judge")
    left_s = seconds_left(ServerTls(cert_file=issued.cert_file, key_file=issued.key_file))
    assert 86_000 < left_s <= 86_400


async def test_health_is_told_by_service() -> None:
    async with running(OPEN) as server:
        assert await health_of(server.port, SERVICE.full_name) == "SERVING"
        await server.set_serving(False, service=SERVICE.full_name)
        assert await health_of(server.port, SERVICE.full_name) == "NOT_SERVING"
        assert await health_of(server.port) == "SERVING"


async def test_a_drain_says_so_lets_calls_end_and_refuses_new_ones() -> None:
    servicer = ThingServicer()
    servicer.gate = asyncio.Event()
    async with (
        running(OPEN.model_copy(update={"health_listen": "127.0.0.1:0"}), servicer) as server,
        plain_channel(server.port) as channel,
        plain_channel(server.port) as other,
    ):
        await other.channel_ready()
        under_way = asyncio.create_task(call(channel, GET, Thing(name="a")))
        await until(lambda: len(servicer.told) == 1)
        drained = asyncio.create_task(server.drain(grace_s=10))
        await asyncio.sleep(0.1)
        assert await health_of(server.health_port) == "NOT_SERVING"
        assert (await fault(other, GET, Thing(name="b"))).code is Code.UNAVAILABLE
        assert not drained.done()
        servicer.gate.set()
        assert (await under_way).name == "a"
        await drained


async def test_a_drain_sends_watchers_away_at_once_and_awaits_their_ends() -> None:
    servicer = ThingServicer()
    async with running(OPEN, servicer) as server, plain_channel(server.port) as channel:
        watch = start(channel, METHODS["WatchThing"], [Thing(name="a").SerializeToString()], within_s=None)
        await watch.read()
        async with asyncio.timeout(5):
            await server.drain(grace_s=60)
        assert await watch.code() is grpc.StatusCode.UNAVAILABLE
        assert servicer.num_ended == 1


async def test_work_that_will_not_end_is_ended_when_the_grace_is_over() -> None:
    servicer = ThingServicer()
    servicer.gate = asyncio.Event()
    async with running(OPEN, servicer) as server, plain_channel(server.port) as channel:
        under_way = asyncio.create_task(fault(channel, GET, Thing(name="a")))
        await until(lambda: len(servicer.told) == 1)
        await server.drain(grace_s=0.1)
        assert (await under_way).code in (Code.UNAVAILABLE, Code.CANCELLED)


async def test_work_ends_when_its_caller_goes_away() -> None:
    servicer = ThingServicer()
    async with running(OPEN, servicer) as server, plain_channel(server.port) as channel:
        watch = start(channel, METHODS["WatchThing"], [Thing(name="a").SerializeToString()], within_s=None)
        await watch.read()
        watch.cancel()
        await until(lambda: servicer.num_ended == 1)


async def test_an_address_in_use_is_told_plainly() -> None:
    async with running(OPEN) as server:
        settings = OPEN.model_copy(update={"listen": f"127.0.0.1:{server.port}"})
        with pytest.raises(SetupError, match="cannot listen"):
            async with running(settings):
                pass


@pytest.mark.parametrize("flag", [True, False])
async def test_reflection_is_served_where_it_is_asked_for(flag: bool) -> None:
    async with (
        running(OPEN.model_copy(update={"reflection": flag})) as server,
        plain_channel(server.port) as channel,
    ):
        ask = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        asked = ask(iter([b"\x3a\x01*"]), timeout=5)
        answer = await asked.read() if flag else await asked.code()
        assert (SERVICE.full_name.encode() in answer) if flag else (answer is grpc.StatusCode.UNIMPLEMENTED)


async def test_old_connections_are_ended_so_that_new_replicas_get_their_share() -> None:
    servicer = ThingServicer()
    settings = OPEN.model_copy(update={"max_connection_age_s": 0.3, "max_connection_age_grace_s": 0.3})
    async with running(settings, servicer) as server, plain_channel(server.port) as channel:
        await channel.channel_ready()
        await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        await call(channel, GET, Thing(name="a"))


async def test_calls_go_round_the_replicas() -> None:
    one, other = ThingServicer(), ThingServicer()
    async with running(OPEN, one) as first, running(OPEN, other) as second:
        address = f"ipv4:127.0.0.1:{first.port},127.0.0.1:{second.port}"
        async with open_channel(address, ChannelSettings(), services=[SERVICE]) as channel:
            for _ in range(40):
                await call(channel, GET, Thing(name="a"))
    assert min(len(one.told), len(other.told)) >= 10


async def test_calls_avoid_a_replica_that_says_it_is_not_serving() -> None:
    one, other = ThingServicer(), ThingServicer()
    async with running(OPEN, one) as first, running(OPEN, other) as second:
        address = f"ipv4:127.0.0.1:{first.port},127.0.0.1:{second.port}"
        async with open_channel(address, ChannelSettings(), services=[SERVICE]) as channel:
            await call(channel, GET, Thing(name="a"))
            await first.set_serving(False)
            await asyncio.sleep(0.3)
            one.told.clear()
            for _ in range(10):
                await call(channel, GET, Thing(name="a"))
    assert one.told == []


async def test_a_reading_call_is_made_again_while_the_server_is_unavailable() -> None:
    class Flaky(ThingServicer):
        async def _begin(self) -> None:
            busy, self.error = self.error, None
            self.told.append(("", frozenset(), "", None))
            if busy is not None:
                raise busy

    servicer = Flaky()
    async with running(OPEN, servicer) as server, connected(server.port, ChannelSettings()) as channel:
        servicer.error = Retry("busy")
        await call(channel, GET, Thing(name="a"))
        assert len(servicer.told) == 2
        servicer.error = Retry("busy")
        assert (await fault(channel, METHODS["CountThings"], Thing(name="a"))).code is Code.UNAVAILABLE
        assert len(servicer.told) == 3


async def test_a_retry_of_a_call_that_had_its_effect_has_no_second_one() -> None:
    """The server's answer is lost on the way once; the channel calls again by itself."""
    servicer, requests, cuts = ThingServicer(), FakeRequests(), [True]
    server = RpcServer(OPEN, [registration(servicer)], requests=requests, access=ACCESS)
    await server.start()

    async def relay(received: bytes, context: aio.ServicerContext) -> bytes:
        sent = tuple((key, value) for key, value in context.invocation_metadata() if key == "idempotency-key")
        answer = await plain.unary_unary(METHODS["MakeThing"].path)(received, metadata=sent, timeout=5)
        if cuts and cuts.pop():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        return bytes(answer)

    relaying = aio.server()
    handlers = {"MakeThing": grpc.unary_unary_rpc_method_handler(relay)}
    relaying.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(GET.service, handlers),))
    port = relaying.add_insecure_port("127.0.0.1:0")
    await relaying.start()
    async with plain_channel(server.port) as plain, connected(port, ChannelSettings()) as channel:
        assert (await call(channel, METHODS["MakeThing"], Thing(name="a"))).number == 1
        assert (await call(channel, METHODS["MakeThing"], Thing(name="a"))).number == 2
    await relaying.stop(0)
    await server.drain(0)
    assert cuts == []


def test_only_methods_that_may_be_repeated_are() -> None:
    names = service_config(ChannelSettings(), [SERVICE])["methodConfig"][0]["name"]
    assert {name["method"] for name in names} == {"GetThing", "MakeThing", "WatchThing"}


async def test_a_token_is_read_again_when_it_is_rotated_and_not_sent_in_the_clear(tmp_path: Path) -> None:
    token_file, seen = tmp_path / "token", []

    async def look(_received: bytes, context: aio.ServicerContext) -> bytes:
        seen.append(dict(context.invocation_metadata()).get("authorization"))
        return b""

    server = aio.server()
    handlers = {"GetThing": grpc.unary_unary_rpc_method_handler(look)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(GET.service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    for over_plaintext in (True, False):
        token_file.write_text("first\n")
        settings = ChannelSettings(token_file=token_file, token_over_plaintext=over_plaintext)
        async with connected(port, settings) as channel:
            await call(channel, GET, Thing(name="a"))
            token_file.write_text("second, and longer\n")
            await asyncio.sleep(1.1)
            await call(channel, GET, Thing(name="a"))
    await server.stop(0)
    assert seen == ["Bearer first", "Bearer second, and longer", None, None]


async def test_a_call_made_for_another_has_its_id_trace_and_no_more_time() -> None:
    servicer = ThingServicer()
    outer = Call(method=GET, metadata={}, received=_nothing(), respond=_nobody, time_remaining=lambda: 3.0)
    outer.request_id, outer.trace = (
        "outer-1",
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    )
    async with running(OPEN, servicer) as server, connected(server.port, ChannelSettings()) as channel:
        CURRENT.set(outer)
        await call(channel, GET, Thing(name="a"), within_s=60)
    assert servicer.told[0][2] == "outer-1"
    assert 2 < (servicer.told[0][3] or 0) <= 3.1
    assert servicer.traces == [outer.trace]


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


async def _nobody(_message: Any) -> None:
    return
