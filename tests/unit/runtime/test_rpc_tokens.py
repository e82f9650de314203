"""Who bearer tokens stand for, and which are none."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import ValidationError
from tests.rpc_client import call, fault, plain_channel
from tests.rpc_service import ACCESS, METHODS, FakeRequests, Thing, ThingServicer, registration

from tracemend.kit.errors import Retry, SetupError
from tracemend.runtime.rpc.faults import Code, Fault
from tracemend.runtime.rpc.keys import Keys
from tracemend.runtime.rpc.permissions import Role
from tracemend.runtime.rpc.server import RpcServer
from tracemend.runtime.rpc.settings import Oidc, RpcSettings
from tracemend.runtime.rpc.tokens import OidcTokens, StaticTokens

ISSUER, AUDIENCE = "https://id.example.org", "tracemend"


class Provider:
    """An identity provider whose keys lie in a file."""

    def __init__(self, folder: Path) -> None:
        self.keys: dict[str, Any] = {}
        self.file = folder / "jwks.json"
        self.rotate("first")

    def rotate(self, kid: str) -> None:
        self.keys = {kid: ec.generate_private_key(ec.SECP256R1())}
        public = [
            json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": name, "alg": "ES256"}
            for name, key in self.keys.items()
        ]
        self.file.write_text(json.dumps({"keys": public}))

    def token(self, *, key: Any = None, algorithm: str = "ES256", kid: str = "", **claims: Any) -> str:
        known, own = next(iter(self.keys.items()))
        now = int(time.time())
        given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 60} | claims
        given = {name: value for name, value in given.items() if value is not None}
        return jwt.encode(given, key or own, algorithm=algorithm, headers={"kid": kid or known})


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    return Provider(tmp_path)


def oidc(provider: Provider, **changes: Any) -> OidcTokens:
    settings = Oidc(issuer=ISSUER, audience=AUDIENCE, jwks=str(provider.file), leeway_s=0, **changes)
    return OidcTokens(settings, keys=Keys(settings.jwks, min_interval_s=0))


async def test_roles_come_from_the_claim_and_only_by_their_full_names(provider: Provider) -> None:
    token = provider.token(roles=["tracemend:reviewer", "tracemend:service", "admin", 7])
    caller = await oidc(provider).caller(token)
    assert caller is not None
    assert (caller.name, caller.roles) == ("ada", frozenset({Role.REVIEWER}))


async def test_a_claim_may_lie_deep_or_hold_words_and_subjects_may_have_roles(provider: Provider) -> None:
    changes = {"roles_claim": ("realm", "groups"), "roles": {"ops": Role.OPERATOR}, "subjects": {"ada": Role.SUBMITTER}}
    caller = await oidc(provider, **changes).caller(provider.token(realm={"groups": "ops staff"}))
    assert caller is not None
    assert caller.roles == {Role.OPERATOR, Role.SUBMITTER}


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "something else"},
        {"iss": "https://evil.example.org"},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"nbf": 2**31},
        {"kid": "unheard of"},
    ],
    ids=str,
)
async def test_a_token_that_is_not_for_us_is_refused(provider: Provider, claims: dict[str, Any]) -> None:
    with pytest.raises(Fault) as refused:
        await oidc(provider).caller(provider.token(**claims))
    assert refused.value.code is Code.UNAUTHENTICATED


async def test_a_token_signed_by_anybody_else_or_by_nobody_is_refused(provider: Provider) -> None:
    forged = (
        provider.token(key=ec.generate_private_key(ec.SECP256R1())),
        provider.token(key="x" * 64, algorithm="HS256"),
        provider.token(key=rsa.generate_private_key(65537, 2048), algorithm="RS256"),
        provider.token().rpartition(".")[0] + ".",
        "a.b.c",
    )
    unsigned = jwt.encode({"sub": "ada", "iss": ISSUER, "aud": AUDIENCE}, None, algorithm="none")
    for token in (*forged, unsigned):
        with pytest.raises(Fault, match="BAD_CREDENTIALS"):
            await oidc(provider).caller(token)


async def test_new_keys_of_the_provider_are_found_and_old_ones_forgotten(provider: Provider) -> None:
    tokens, old = oidc(provider), provider.token()
    assert await tokens.caller(old) is not None
    provider.rotate("second")
    assert await tokens.caller(provider.token()) is not None
    with pytest.raises(Fault):
        await tokens.caller(old)


async def test_made_up_key_ids_do_not_make_us_hammer_the_provider(provider: Provider) -> None:
    now = [0.0]
    keys = Keys(str(provider.file), min_interval_s=30, clock=lambda: now[0])
    assert await keys.get("first") is not None
    provider.rotate("second")
    assert await keys.get("second") is None
    now[0] = 31
    assert await keys.get("second") is not None


async def test_while_the_provider_is_away_known_keys_go_on_and_a_stranger_is_asked_to_wait(provider: Provider) -> None:
    keys, gone = Keys(str(provider.file), ttl_s=0, min_interval_s=0), Keys(str(provider.file) + ".gone")
    assert await keys.get("first") is not None
    provider.file.unlink()
    assert await keys.get("first") is not None
    with pytest.raises(Retry):
        await gone.get("first")


@pytest.mark.parametrize(
    "bad",
    [
        {"algorithms": ("HS256",)},
        {"algorithms": ("none",)},
        {"roles": {"x": Role.SERVICE}},
        {"subjects": {"x": Role.SERVICE}},
        {"jwks": "http://id.example.org/keys"},
    ],
    ids=str,
)
def test_settings_that_would_open_the_door_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Oidc(**({"issuer": ISSUER, "audience": AUDIENCE, "jwks": "file"} | bad))


def write_tokens(path: Path, **roles: list[str]) -> None:
    entries = [
        {"name": name, "sha256": hashlib.sha256(f"{name}-token".encode()).hexdigest(), "roles": given}
        for name, given in roles.items()
    ]
    path.write_text(json.dumps(entries))


async def test_static_tokens_are_known_by_their_digest_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    write_tokens(path, ada=["submitter"])
    tokens = StaticTokens(path)
    caller = await tokens.caller("ada-token")
    assert caller is not None
    assert caller.roles == {Role.SUBMITTER}
    assert await tokens.caller("bob-token") is None
    write_tokens(path, bob=["operator", "reviewer"])
    await asyncio.sleep(1.1)
    assert await tokens.caller("ada-token") is None
    assert await tokens.caller("bob-token") is not None
    path.write_text("half a fi")
    await asyncio.sleep(1.1)
    assert await tokens.caller("bob-token") is not None


@pytest.mark.parametrize("content", ["", "- name: ada", '[{"name": "a", "sha256": "b", "roles": ["service"]}]', "{"])
def test_a_tokens_file_that_is_none_is_told_at_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(content)
    with pytest.raises(SetupError, match="tokens_file"):
        StaticTokens(path)


async def test_a_server_takes_both_kinds_and_nothing_else(tmp_path: Path, provider: Provider) -> None:
    path, read = tmp_path / "tokens.yaml", METHODS["GetThing"]
    write_tokens(path, ada=["submitter"], bob=["auditor"])
    settings = RpcSettings(
        listen="127.0.0.1:0",
        tokens_file=path,
        oidc=Oidc(issuer=ISSUER, audience=AUDIENCE, jwks=str(provider.file)),
    )
    servicer = ThingServicer()
    server = RpcServer(settings, [registration(servicer)], requests=FakeRequests(), access=ACCESS)
    await server.start()
    async with plain_channel(server.port) as channel:
        await call(channel, read, Thing(name="a"), authorization="Bearer ada-token")
        signed = provider.token(roles=["tracemend:submitter"])
        await call(channel, read, Thing(name="a"), authorization=f"bearer {signed}")
        bob = await fault(channel, read, Thing(name="a"), authorization="Bearer bob-token")
        assert bob.code is Code.PERMISSION_DENIED
        for header in ("Bearer eve-token", "Bearer ", "Basic YTpi", "Bearer a.b.c", "Bearer " + "x" * 20_000):
            refused = await fault(channel, read, Thing(name="a"), authorization=header)
            assert refused.code is Code.UNAUTHENTICATED
            assert "eve" not in f"{refused} {refused.metadata}"
    await server.drain(0)
    assert [name for name, *_ in servicer.told] == ["ada", "ada"]
