"""Authentication: who calls, by bearer token or by client certificate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tracemend.runtime.rpc.call import Call, Caller
from tracemend.runtime.rpc.chain import Proceed
from tracemend.runtime.rpc.faults import Code, Fault
from tracemend.runtime.rpc.permissions import Role
from tracemend.runtime.rpc.tokens import MAX_TOKEN_CHARS, Tokens, unauthenticated

HEADER = "authorization"
_NAME_KEYS = ("x509_subject_alternative_name", "x509_common_name")


class Authentication:
    """A token counts before a certificate: a service may act for a person, and then has the person's roles only.

    A certificate that the transport verified makes its holder a service, if its name is one of `peer_names` (any,
    where there are none). Callers without credentials get the `anonymous` roles, or are refused where there are none.
    """

    def __init__(
        self, tokens: Sequence[Tokens], *, peer_names: Sequence[str] = (), anonymous: frozenset[Role] = frozenset()
    ) -> None:
        self._tokens = tuple(tokens)
        self._peer_names = frozenset(peer_names)
        self._anonymous = anonymous

    async def __call__(self, call: Call, proceed: Proceed) -> None:
        if header := call.text(HEADER):
            call.caller = await self._holder(header)
        else:
            call.caller = self._peer(call.identity()) or self._stranger()
        await proceed(call)

    async def _holder(self, header: str) -> Caller:
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_CHARS:
            raise unauthenticated("NoBearerToken")
        for kind in self._tokens:
            if (caller := await kind.caller(token)) is not None:
                return caller
        raise unauthenticated("UnknownToken")

    def _peer(self, identity: Mapping[str, list[bytes]]) -> Caller | None:
        names = [name.decode(errors="replace") for key in _NAME_KEYS for name in identity.get(key, ())]
        known = [name for name in names if name in self._peer_names] if self._peer_names else names
        if names and not known:
            raise unauthenticated("UnknownCertificate")
        return Caller(name=known[0], roles=frozenset({Role.SERVICE})) if known else None

    def _stranger(self) -> Caller:
        if not self._anonymous:
            message = "send a bearer token in the authorization metadata, or show a client certificate"
            raise Fault(Code.UNAUTHENTICATED, "NO_CREDENTIALS", message)
        return Caller(name="anonymous", roles=self._anonymous)
