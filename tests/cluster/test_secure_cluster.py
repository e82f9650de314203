"""Everything encrypted: people come with OpenID Connect tokens, services with certificates, and Kafka (SASL over TLS),
the store, PostgreSQL and the identity provider are spoken to by TLS alone."""

from __future__ import annotations

import asyncio
import http.server
import shutil
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.certificates import Authority
from tests.cluster.runs_compared import embedded, facts_of_run, null_run
from tests.cluster.spine import SERVICES, Spine, free_port
from tests.rpc_client import call, fault, plain_channel
from tests.servers import own_servers
from tests.unit.runtime.test_rpc_permissions import METHODS
from tests.unit.runtime.test_rpc_tokens import AUDIENCE, ISSUER, Provider

from tracemend.api.judge.v1 import judge_service_pb2 as judge
from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import RunRecord
from tracemend.runtime.rpc.channel import open_channel
from tracemend.runtime.rpc.faults import Code
from tracemend.runtime.rpc.settings import ChannelSettings, ClientTls

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(900)]

PANEL, GRADE = (next(m for m in METHODS if m.name == name) for name in ("DescribePanel", "GradeTrajectories"))
_TAKEN_UP_S = 1.5
"""Files are looked at once a second."""


@dataclass
class Site:
    """Certificates and addresses of six services."""

    folder: Path
    authority: Authority
    peer_ports: dict[str, int] = field(default_factory=lambda: {service: free_port() for service in SERVICES})
    health_ports: dict[str, int] = field(default_factory=lambda: {service: free_port() for service in SERVICES})

    @classmethod
    def at(cls, folder: Path) -> Site:
        site = cls(folder, Authority(folder / "first"))
        site.exchange(site.authority)
        return site

    def exchange(self, authority: Authority) -> None:
        """Everybody has certificates of `authority` from now on, and trusts no other."""
        self.authority = authority
        shutil.copy(authority.ca_file, self.folder / "ca.pem")
        for service in SERVICES:
            issued = authority.issue(service)
            shutil.copy(issued.cert_file, self.folder / f"{service}.crt")
            shutil.copy(issued.key_file, self.folder / f"{service}.key")

    def settings(self, service: str) -> dict[str, str]:
        return {
            "TRACEMEND_RPC_ANONYMOUS_ROLES": "[]",
            "TRACEMEND_RPC_TLS_CERT_FILE": str(self.folder / f"{service}.crt"),
            "TRACEMEND_RPC_TLS_KEY_FILE": str(self.folder / f"{service}.key"),
            "TRACEMEND_RPC_TLS_CLIENT_CA_FILE": str(self.folder / "ca.pem"),
            "TRACEMEND_RPC_PEER_LISTEN": f"127.0.0.1:{self.peer_ports[service]}",
            "TRACEMEND_RPC_HEALTH_LISTEN": f"127.0.0.1:{self.health_ports[service]}",
        }

    def as_service(self, name: str, *, of: Authority | None = None) -> ChannelSettings:
        """What a service called `name` shows."""
        authority = of or self.authority
        issued = authority.issue(name, file=f"client-{name}")
        tls = ClientTls(ca_file=authority.ca_file, cert_file=issued.cert_file, key_file=issued.key_file)
        return ChannelSettings(tls=tls, max_attempts=1)


@contextmanager
def keys_over_https(provider: Provider, authority: Authority) -> Iterator[Mapping[str, str]]:
    """The provider's keys behind TLS; the settings that lead to them."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(provider.file.read_bytes())

        def log_message(self, *_: Any) -> None:
            pass

    issued = authority.issue("provider")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert_file, issued.key_file)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "TRACEMEND_RPC_OIDC_ISSUER": ISSUER,
            "TRACEMEND_RPC_OIDC_AUDIENCE": AUDIENCE,
            "TRACEMEND_RPC_OIDC_JWKS": f"https://localhost:{server.server_address[1]}/keys",
            "TRACEMEND_RPC_OIDC_CA_FILE": str(authority.ca_file),
        }
        server.shutdown()


async def health_of(port: int) -> Any:
    async with plain_channel(port) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)).status


async def until_serving(port: int) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                return await health_of(port)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.5)


async def check_doors(spine: Spine, site: Site, run: RunRecord, token: Path) -> None:
    """Who is let in where."""
    port, peers, health = (spine.ports["judge"], site.peer_ports["judge"], site.health_ports["judge"])
    request = judge.DescribePanelRequest(plan=run.plan)
    stranger = Authority(site.folder / "stranger")
    async with open_channel(f"127.0.0.1:{peers}", site.as_service("corrector")) as channel:
        panel = await call(channel, PANEL, request)
        assert {member.name for member in panel.members} == {"last_word"}
    person = ChannelSettings(tls=ClientTls(ca_file=site.authority.ca_file), token_file=token, max_attempts=1)
    async with open_channel(f"127.0.0.1:{port}", person) as channel:
        await call(channel, PANEL, request)
        work = judge.GradeTrajectoriesRequest(plan=run.plan)
        assert (await fault(channel, GRADE, work)).code is Code.PERMISSION_DENIED
    nobody = ChannelSettings(tls=ClientTls(ca_file=site.authority.ca_file), max_attempts=1)
    async with open_channel(f"127.0.0.1:{port}", nobody) as channel:
        assert (await fault(channel, PANEL, request)).code is Code.UNAUTHENTICATED
    for shut in (nobody, person, site.as_service("corrector", of=stranger)):
        async with open_channel(f"127.0.0.1:{peers}", shut) as channel:
            assert (await fault(channel, PANEL, request, within_s=3)).code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
    async with plain_channel(port) as channel:
        assert (await fault(channel, PANEL, request, within_s=3)).code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
    async with plain_channel(health) as channel:
        assert (await fault(channel, PANEL, request)).code is Code.UNIMPLEMENTED
    assert await health_of(health) == health_pb2.HealthCheckResponse.SERVING


def test_a_run_with_everything_encrypted_ends_as_in_one_process_while_certificates_are_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(provider: Provider) -> None:
        settings = null_run(limit=40, engine_options={"delay_s": 0.5, "jitter_s": 0.5})
        expected = await embedded(settings, tmp_path / "embedded", cache=tmp_path)
        site, token = Site.at(tmp_path), tmp_path / "token"
        words = [f"tracemend:{role}" for role in ("submitter", "operator")]
        token.write_text(provider.token(roles=words, exp=int(time.time()) + 900))
        with keys_over_https(provider, Authority(tmp_path / "identities")) as identities:
            async with Spine.on_servers(tmp_path, TRACEMEND_CONCURRENCY="4", **identities) as spine:
                spine.own_settings |= {service: site.settings(service) for service in SERVICES}
                spine.credentials = {"ca_file": site.folder / "ca.pem", "token_file": token}
                spine.start_all()
                for service in SERVICES:
                    await until_serving(site.health_ports[service])
                run = await spine.submit(settings)
                record = await spine.wait_until(run, RunState.RUNNING)
                await check_doors(spine, site, record, token)
                site.exchange(Authority(tmp_path / "second"))
                await asyncio.sleep(_TAKEN_UP_S)
                await check_doors(spine, site, record, token)
                assert await spine.workspace.ledger.open_prompts(run, arms=["filter"]), "the run is under way"
                async with spine.client() as client:
                    assert (await client.run(run).status()).submitter == "ada"
                await spine.wait_done(run)
                assert await facts_of_run(spine.workspace, run) == expected
                assert all(process.poll() is None for process in spine.processes.values()), "nobody began anew"

    with own_servers("kafka", "minio", "postgres", "--secure") as (_, environment):
        for name in environment:
            monkeypatch.setenv(name, environment[name])
        if environment.get("KAFKA_SECURITY_PROTOCOL") != "SASL_SSL":
            pytest.skip("needs TRACEMEND_SERVERS_CTL: servers that can be started with --secure")
        assert environment["S3_ENDPOINT"].startswith("https://")
        assert "sslmode=verify-full" in environment["POSTGRES_DSN"]
        asyncio.run(check(Provider(tmp_path)))
