"""Authorisation: what the caller may do, by the one permission table."""

from __future__ import annotations

from collections.abc import Mapping

from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.chain import Proceed
from tracemend.runtime.rpc.faults import denied
from tracemend.runtime.rpc.permissions import Role


class Authorisation:
    """Denies what the table does not list."""

    def __init__(self, permissions: Mapping[str, frozenset[Role]]) -> None:
        self._permissions = permissions

    async def __call__(self, call: Call, proceed: Proceed) -> None:
        allowed = self._permissions.get(call.method.full_name, frozenset())
        if not allowed & call.caller.roles:
            names = ", ".join(sorted(allowed)) or "none"
            raise denied(
                "ROLE_MISSING", f"{call.method.full_name} needs one of the roles: {names}", method=call.method.full_name
            )
        await proceed(call)
