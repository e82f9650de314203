"""Leases in the whole cluster, as advisory locks of PostgreSQL. Made by `sql_server`.

All leases of a process belong to one session, which has nothing else to do; it is opened with the first lease and asked
once a second whether it is alive. When it breaks all of its leases are lost and their holders are told, and the next
lease opens another. The server in turn notices within seconds that a holder's machine is gone. The session must be the
server's own: a pooler that shares sessions between transactions would give locks to strangers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tracemend.kit.errors import Retry

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_PATIENCE_S = 0.2
"""How long to wait between two tries."""
_HEARTBEAT_S = 1.0
_ANSWER_S = 5.0
"""A session that does not answer for so long counts as broken."""
_NOTICE_DEAD_CLIENTS = (
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = 10000",
)


class SessionLease:
    """`kit.server_ports.Lease`."""

    def __init__(self, name: str, session: _Session) -> None:
        self.name = name
        self._session = session

    @property
    def is_lost(self) -> bool:
        return self._session.is_broken.is_set()

    async def lost(self) -> None:
        await self._session.is_broken.wait()


class SqlLeases:
    """`kit.server_ports.Leases`. `options` are psycopg's for a connection. Belongs to the event loop that first takes a
    lease."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._session: _Session | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[SessionLease]:
        while True:
            async with self.try_hold(name) as lease:
                if lease is not None:
                    yield lease
                    return
            await asyncio.sleep(_PATIENCE_S)

    @asynccontextmanager
    async def try_hold(self, name: str) -> AsyncIterator[SessionLease | None]:
        """`Retry` while the database is out of reach."""
        session = await self._open()
        if not await session.take(name):
            yield None
            return
        try:
            yield SessionLease(name, session)
        finally:
            await session.let_go(name)

    async def aclose(self) -> None:
        """Lose every lease; again is no error."""
        if self._session is not None:
            await self._session.aclose()

    async def _open(self) -> _Session:
        async with self._opening:
            if self._session is None or self._session.is_broken.is_set():
                self._session = await _Session.open(self._options)
            return self._session


class _Session:
    """One connection, the names that it holds locks on, and whether it still lives."""

    def __init__(self, connection: AsyncConnection[Any], schema: str) -> None:
        self.is_broken = asyncio.Event()
        self._connection = connection
        self._schema = schema
        self._held: set[str] = set()
        self._beating = asyncio.create_task(self._beat())

    @classmethod
    async def open(cls, options: Mapping[str, Any]) -> _Session:
        from psycopg import AsyncConnection, Error

        try:
            async with asyncio.timeout(2 * _ANSWER_S):
                connection = await AsyncConnection.connect(**{**options, "autocommit": True})
                for statement in _NOTICE_DEAD_CLIENTS:
                    await connection.execute(statement)
                (schema,) = await _row(connection, "SELECT current_schema()")
        except (Error, TimeoutError) as error:
            raise Retry(f"no session for leases: {type(error).__name__}") from error
        return cls(connection, str(schema))

    async def take(self, name: str) -> bool:
        """Whether the lock on `name` was free and is ours now."""
        if name in self._held:
            return False
        self._held.add(name)  # before asking: the session's own lock would be given to it once more
        try:
            is_ours = bool(await self._ask("SELECT pg_try_advisory_lock(%s)", name))
        except BaseException:
            await self.let_go(name)  # the answer may have been lost and not the lock
            raise
        if not is_ours:
            self._held.discard(name)
        return is_ours

    async def let_go(self, name: str) -> None:
        """Never raises: a lock that cannot be given back goes with the session."""
        try:
            if not self.is_broken.is_set():
                await asyncio.shield(self._ask("SELECT pg_advisory_unlock(%s)", name))
        except Retry:
            pass
        finally:
            self._held.discard(name)

    async def aclose(self) -> None:
        self.is_broken.set()
        if asyncio.current_task() is not self._beating:
            self._beating.cancel()
        await self._connection.close()

    async def _ask(self, question: str, name: str) -> Any:
        return await self._answer(question, (lock_number(self._schema, name),))

    async def _answer(self, question: str, arguments: tuple[Any, ...] = ()) -> Any:
        """What the server says; `Retry` if it does not within seconds, and then the session is given up."""
        from psycopg import Error

        try:
            async with asyncio.timeout(_ANSWER_S):
                (answer,) = await _row(self._connection, question, arguments)
        except (Error, TimeoutError) as error:
            await self.aclose()
            raise Retry(f"the session for leases is broken: {type(error).__name__}") from error
        return answer

    async def _beat(self) -> None:
        with contextlib.suppress(Retry):
            while True:
                await asyncio.sleep(_HEARTBEAT_S)
                await self._answer("SELECT 1")


async def _row(connection: AsyncConnection[Any], question: str, arguments: tuple[Any, ...] = ()) -> tuple[Any, ...]:
    row = await (await connection.execute(question, arguments)).fetchone()
    return tuple(row or ())


def lock_number(schema: str, name: str) -> int:
    """The number that PostgreSQL knows the lock on `name` by; schemas of one database have locks of their own."""
    digest = hashlib.sha256(f"tracemend.lease:{schema}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
