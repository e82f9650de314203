"""The client against a server with TLS and bearer tokens."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml
from tests.certificates import Authority
from tests.ingestion_server import ingestion, plan

from tracemend.client import AsyncClient, CallError
from tracemend.kit.run_states import RunState
from tracemend.runtime.rpc.settings import RpcSettings, ServerTls


def tokens_file(folder: Path, **roles: list[str]) -> Path:
    """A tokens file in which everybody's token is their name."""
    entries = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "roles": its} for name, its in roles.items()
    ]
    path = folder / "tokens.yaml"
    path.write_text(yaml.safe_dump(entries))
    return path


async def test_whoever_trusts_the_authority_and_has_a_token_may_submit(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("server")
    settings = RpcSettings(
        listen="127.0.0.1:0",
        tls=ServerTls(cert_file=issued.cert_file, key_file=issued.key_file),
        tokens_file=tokens_file(tmp_path, ann=["submitter"], otto=["auditor"]),
    )
    token = tmp_path / "token"
    token.write_text("ann\n")
    async with ingestion(tmp_path, rpc=settings) as served:
        address = served.address
        async with AsyncClient(address, ca_file=authority.ca_file, token_file=token) as client:
            run = await client.submit(plan(), [{"text": "one", "category": "benign"}])
            status = await run.status()
            assert (status.state, status.submitter) == (RunState.SEALED, "ann")
            token.write_text("otto")
            with pytest.raises(CallError) as caught:
                await run.cancel()
            assert (caught.value.code, caught.value.reason) == ("PERMISSION_DENIED", "ROLE_MISSING")
            token.write_text("nobody")
            with pytest.raises(CallError) as caught:
                await run.status()
            assert caught.value.code == "UNAUTHENTICATED"
        stranger = Authority(tmp_path / "stranger")
        async with AsyncClient(address, ca_file=stranger.ca_file, token_file=token, patience_s=0.2) as client:
            with pytest.raises(CallError) as caught:
                await client.begin(plan())
            assert caught.value.code == "UNAVAILABLE"
