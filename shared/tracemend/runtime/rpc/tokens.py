"""Bearer tokens: whose they are and what they give.

Called by the authentication interceptor. Static tokens are for development: the file holds their SHA-256, so that
reading it gives nobody away. OpenID Connect tokens are verified against the provider's keys (RFC 7519, RFC 9068).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import TypeAdapter, ValidationError

from tracemend.kit.errors import SetupError
from tracemend.kit.settings import Section
from tracemend.runtime.rpc.call import Caller
from tracemend.runtime.rpc.faults import Code, Fault
from tracemend.runtime.rpc.files import Reloaded
from tracemend.runtime.rpc.keys import Keys
from tracemend.runtime.rpc.permissions import Role
from tracemend.runtime.rpc.settings import Oidc, RpcSettings

MAX_TOKEN_CHARS = 16 * 1024


class Tokens(Protocol):
    """One way of knowing tokens."""

    async def caller(self, token: str) -> Caller | None:
        """Who `token` stands for; None where it is not of this kind. UNAUTHENTICATED where it is, and is no good."""
        ...


class StaticToken(Section):
    """One entry of a tokens file."""

    name: str
    sha256: str
    """Of the token: `printf %s TOKEN | sha256sum`."""
    roles: frozenset[Role]


class StaticTokens:
    """Tokens from a YAML list of `name`, `sha256` and `roles`; read again when the file changes."""

    def __init__(self, path: Path) -> None:
        self._entries = Reloaded([path], lambda: _read_entries(path))

    async def caller(self, token: str) -> Caller | None:
        return self._entries.get().get(hashlib.sha256(token.encode()).hexdigest())


class OidcTokens:
    """JSON Web Tokens of one issuer, for one audience."""

    def __init__(self, settings: Oidc, *, keys: Keys | None = None) -> None:
        self._settings = settings
        self._keys = keys or Keys(settings.jwks, ca_file=settings.ca_file, ttl_s=settings.keys_ttl_s)

    async def caller(self, token: str) -> Caller | None:
        import jwt

        if token.count(".") != 2:
            return None
        try:
            kid = str(jwt.get_unverified_header(token).get("kid", ""))
            key = await self._keys.get(kid)
            claims = self._claims(token, key) if key is not None else None
        except (jwt.InvalidTokenError, ValueError) as error:
            raise unauthenticated(type(error).__name__) from None
        if claims is None:
            raise unauthenticated("UnknownKey")
        return Caller(name=str(claims["sub"]), roles=frozenset(self._roles(claims)))

    def _claims(self, token: str, key: Any) -> dict[str, Any]:
        import jwt

        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(self._settings.algorithms),
            audience=self._settings.audience,
            issuer=self._settings.issuer,
            leeway=self._settings.leeway_s,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
        return claims

    def _roles(self, claims: dict[str, Any]) -> set[Role]:
        value: Any = claims
        for part in self._settings.roles_claim:
            value = value.get(part) if isinstance(value, dict) else None
        words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
        roles = {self._settings.roles[word] for word in words if isinstance(word, str) and word in self._settings.roles}
        subject = self._settings.subjects.get(str(claims["sub"]))
        return roles | {subject} if subject is not None else roles


def open_tokens(settings: RpcSettings) -> Sequence[Tokens]:
    """The kinds of tokens that `settings` accept, in the order to try them."""
    kinds: list[Tokens] = []
    if settings.tokens_file is not None:
        kinds.append(StaticTokens(settings.tokens_file))
    if settings.oidc is not None:
        kinds.append(OidcTokens(settings.oidc))
    return kinds


def unauthenticated(why: str) -> Fault:
    """UNAUTHENTICATED, with the kind of mistake and nothing of the token."""
    return Fault(Code.UNAUTHENTICATED, "BAD_CREDENTIALS", "the credentials are not accepted", metadata={"why": why})


def _read_entries(path: Path) -> dict[str, Caller]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = TypeAdapter(list[StaticToken]).validate_python(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise SetupError(
            f"tokens_file: {path} is no list of name, sha256 and roles ({type(error).__name__}); see the settings page"
        ) from None
    if any(Role.SERVICE in entry.roles for entry in entries):
        raise SetupError(f"tokens_file: {path} gives the role 'service', which is for certificates")
    return {entry.sha256.lower(): Caller(name=entry.name, roles=entry.roles) for entry in entries}
