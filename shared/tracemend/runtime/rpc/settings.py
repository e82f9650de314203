"""What may be configured of serving and calling gRPC: the sections that programs put into their settings.

Secrets are files, never values. Checks that need two settings at once stand here, so that a program tells all mistakes
before it opens a port.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from tracemend.kit.settings import Section
from tracemend.runtime.rpc.permissions import PEOPLE, Role


class ServerTls(Section):
    """Certificates of a server; the files are read again when they change."""

    cert_file: Path
    """The server's certificate chain, PEM."""
    key_file: Path
    """Its private key, PEM."""
    client_ca_file: Path | None = None
    """Whose certificates services show (mTLS)."""


class ClientTls(Section):
    """Certificates of a client; the files are read again when they change."""

    ca_file: Path
    """Who signs the servers' certificates, PEM."""
    cert_file: Path | None = None
    """The client's own certificate chain, where servers want one (mTLS)."""
    key_file: Path | None = None
    server_name: str = ""
    """The name to expect in the server's certificate, where it is not the one in the address."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together: give both or none")
        return self


class Oidc(Section):
    """Bearer tokens of an OpenID Connect provider."""

    issuer: str
    """`iss` of every token."""
    audience: str
    """What `aud` must hold: tokens for other systems are refused."""
    jwks: str
    """The provider's keys: an https URL (`jwks_uri`) or a file."""
    ca_file: Path | None = None
    """Who signs the provider's certificate, where the system's authorities do not."""
    roles_claim: tuple[str, ...] = ("roles",)
    """Path of the claim that holds the caller's groups or roles: a list, or words between spaces."""
    roles: dict[str, Role] = Field(default_factory=lambda: {f"tracemend:{role}": role for role in PEOPLE})
    """From values of that claim to roles; other values mean nothing."""
    subjects: dict[str, Role] = Field(default_factory=dict)
    """From `sub` to a role, for tokens that carry none, such as Kubernetes service accounts'."""
    algorithms: tuple[str, ...] = ("RS256", "ES256", "PS256", "EdDSA")
    leeway_s: float = Field(30.0, ge=0, le=300)
    keys_ttl_s: float = Field(3600.0, gt=0)
    """How long keys are used before they are asked for again."""

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if any(name.upper().startswith("HS") or name.lower() == "none" for name in self.algorithms):
            raise ValueError("algorithms: only asymmetric ones; with HS* or none anybody could make tokens")
        if Role.SERVICE in (*self.roles.values(), *self.subjects.values()):
            raise ValueError("roles: 'service' is for certificates; no token may give it")
        if self.jwks.startswith("http://"):
            raise ValueError("jwks: keys must come over https, or from a file")
        return self


class RpcSettings(Section):
    """How a service is served."""

    listen: str = "127.0.0.1:8443"
    """HOST:PORT for everybody; port 0 takes a free one."""
    peer_listen: str = ""
    """HOST:PORT for services alone, where certificates are asked for and required (needs `tls.client_ca_file`).
    Without it, a `client_ca_file` makes them required on `listen`."""
    health_listen: str = ""
    """HOST:PORT of a plaintext listener that answers health checks and nothing else, for probes that speak no TLS."""
    tls: ServerTls | None = None
    peer_names: tuple[str, ...] = ()
    """Names in certificates (DNS or URI subject alternative names) that are services; empty means all that were signed
    by the authority."""
    tokens_file: Path | None = None
    """Development tokens: see `tokens.StaticTokens`."""
    oidc: Oidc | None = None
    text_reads_per_minute: int = Field(60, gt=0)
    """How many calls that show text one person may make, so that reading stays reading and does not become copying."""
    anonymous_roles: frozenset[Role] = frozenset()
    """What callers without any credentials may do; empty refuses them."""
    max_message_bytes: int = Field(8 * 2**20, ge=2**16, le=64 * 2**20)
    max_concurrent_calls: int = Field(1024, gt=0)
    max_connection_age_s: float = Field(1800.0, gt=0)
    """Connections are ended after this long, so that clients spread over new replicas."""
    max_connection_age_grace_s: float = Field(300.0, gt=0)
    keepalive_s: float = Field(60.0, gt=0)
    min_ping_interval_s: float = Field(10.0, gt=0)
    """How often clients may ping without being sent away."""
    default_deadline_s: float = Field(60.0, gt=0)
    """For reading calls that have none."""
    max_deadline_s: float = Field(3600.0, gt=0)
    """Calls that would wait longer are ended after this long."""
    reflection: bool = False
    page_key_file: Path | None = None
    """Secret that page tokens are signed with; replicas share it."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.peer_listen and (self.tls is None or self.tls.client_ca_file is None):
            raise ValueError("peer_listen: needs tls.client_ca_file, or nobody could show who they are")
        if Role.SERVICE in self.anonymous_roles and self.tls is not None:
            raise ValueError("anonymous_roles: 'service' without a certificate is for plaintext on one machine only")
        return self


class ChannelSettings(Section):
    """How a service is called."""

    tls: ClientTls | None = None
    token_file: Path | None = None
    """Bearer token, read again when it is rotated."""
    token_over_plaintext: bool = False
    """Send the token without TLS: for loopback, or where a mesh encrypts."""
    max_message_bytes: int = Field(8 * 2**20, ge=2**16, le=64 * 2**20)
    keepalive_s: float = Field(30.0, gt=0)
    default_deadline_s: float = Field(60.0, gt=0)
    """For unary calls that are given none."""
    max_attempts: int = Field(4, ge=1, le=5)
    """How often methods that may be repeated are tried while servers are unavailable."""
