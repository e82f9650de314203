"""Uploads of rows: what has arrived of them, chunk by chunk.

Made by `sql_server`. The upload's row is locked while a chunk is added, so its high-water mark counts chunks without
holes; the run's row is locked while an upload begins or completes, so none completes after the run was sealed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, tuple_, update

from tracemend.adapters import sql_rows
from tracemend.adapters.sql_engine import Database
from tracemend.adapters.sql_server_tables import CHUNKS, UPLOADS
from tracemend.adapters.sql_tables import RUNS
from tracemend.kit.ports import Address
from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import Chunk, Conflict, Gap, Upload

_PAGE = 1000
_RECEIVING = RunState.RECEIVING.value


class SqlUploads:
    """`kit.server_ports.Uploads`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, run: str, upload: str, *, num_expected: int = -1, digest: str = "") -> Upload:
        values = {"upload": upload, "run": run, "num_expected": num_expected, "digest": sql_rows.storable(digest)}
        fresh = {"num_chunks": 0, "num_rows": 0, "is_complete": False}

        def work(connection: Connection) -> Upload:
            state = _lock_run(connection, run)
            found = connection.execute(_upload(upload)).first()
            if found is None:
                _must_receive(run, state)
                its_number = select(func.coalesce(func.max(UPLOADS.c.number), 0) + 1).where(UPLOADS.c.run == run)
                number = connection.scalar(its_number)
                row = {**values, **fresh, "number": number}
                connection.execute(sql_rows.upsert(connection, UPLOADS).values(row).on_conflict_do_nothing())
                found = connection.execute(_upload(upload)).one()
            if any(getattr(found, name) != value for name, value in values.items()):
                raise Conflict(f"upload {upload} was begun with another run, number of rows or digest")
            return _upload_of(found)

        return await self._database.write(work)

    async def append(self, upload: str, sequence: int, *, address: Address, num_rows: int, crc: int) -> int:
        chunk = Chunk(upload=upload, sequence=sequence, address=address, num_rows=num_rows, crc=crc)
        return await self._database.write(lambda c: _append(c, chunk))

    async def mark(self, upload: str) -> Upload | None:
        row = await self._database.read(lambda c: c.execute(_upload(upload)).first())
        return None if row is None else _upload_of(row)

    async def complete(self, upload: str) -> Upload:
        def work(connection: Connection) -> Upload:
            run = connection.scalar(select(UPLOADS.c.run).where(UPLOADS.c.upload == upload))
            if run is None:
                raise KeyError(upload)
            state = _lock_run(connection, run)
            found = connection.execute(_upload(upload).with_for_update()).one()
            if found.is_complete:
                return _upload_of(found)
            _must_receive(run, state)
            if found.num_expected not in (-1, found.num_rows):
                raise Conflict(f"upload {upload} announced {found.num_expected} rows and has {found.num_rows}")
            connection.execute(update(UPLOADS).where(UPLOADS.c.upload == upload).values(is_complete=True))
            counted = {"num_rows": RUNS.c.num_rows + found.num_rows, "revision": RUNS.c.revision + 1}
            connection.execute(update(RUNS).where(RUNS.c.run == run).values(counted))
            return _upload_of(connection.execute(_upload(upload)).one())

        return await self._database.write(work)

    async def chunks(self, run: str) -> AsyncIterator[Chunk]:
        place = (UPLOADS.c.number, CHUNKS.c.sequence)
        page = select(CHUNKS, UPLOADS.c.number).join(UPLOADS, UPLOADS.c.upload == CHUNKS.c.upload)
        page = page.where(UPLOADS.c.run == run, UPLOADS.c.is_complete).order_by(*place).limit(_PAGE)
        rest: Select[Any] | None = page
        while rest is not None:
            rows = await self._database.read(lambda c, some=rest: c.execute(some).all())  # type: ignore[misc]
            for row in rows:
                yield _chunk_of(row)
            last = rows[-1] if len(rows) == _PAGE else None
            rest = None if last is None else page.where(tuple_(*place) > tuple_(last.number, last.sequence))

    async def discard(self, run: str) -> int:
        def work(connection: Connection) -> int:
            _lock_run(connection, run)
            if connection.scalar(select(RUNS.c.num_admitted).where(RUNS.c.run == run)) is None:
                raise Conflict(f"the rows of run {run} are not admitted yet")
            its = select(UPLOADS.c.upload).where(UPLOADS.c.run == run)
            return connection.execute(delete(CHUNKS).where(CHUNKS.c.upload.in_(its))).rowcount

        return await self._database.write(work)


def _append(connection: Connection, chunk: Chunk) -> int:
    """The high-water mark with `chunk`."""
    upload = connection.execute(_upload(chunk.upload).with_for_update()).first()
    if upload is None:
        raise KeyError(chunk.upload)
    num_chunks = int(upload.num_chunks)
    if chunk.sequence < num_chunks:
        _must_be_the_same(connection, chunk)
        return num_chunks
    if upload.is_complete:
        raise Conflict(f"upload {chunk.upload} is complete and takes no more chunks")
    if chunk.sequence > num_chunks:
        raise Gap(f"upload {chunk.upload} has {num_chunks} chunks: send {num_chunks} next", expected=num_chunks)
    _must_receive(upload.run, connection.scalar(select(RUNS.c.state).where(RUNS.c.run == upload.run)))
    values = {"upload": chunk.upload, "sequence": chunk.sequence, "num_rows": chunk.num_rows, "crc": chunk.crc}
    connection.execute(insert(CHUNKS).values({**values, **sql_rows.address_values(chunk.address)}))
    counted = {"num_chunks": num_chunks + 1, "num_rows": UPLOADS.c.num_rows + chunk.num_rows}
    connection.execute(update(UPLOADS).where(UPLOADS.c.upload == chunk.upload).values(counted))
    return num_chunks + 1


def _must_be_the_same(connection: Connection, chunk: Chunk) -> None:
    """`Conflict` where another chunk is known under the sequence. What is told by its digest may lie anywhere."""
    at = (CHUNKS.c.upload == chunk.upload) & (CHUNKS.c.sequence == chunk.sequence)
    known = connection.execute(select(CHUNKS).where(at)).first()
    if known is None:
        raise Conflict(f"the chunks of upload {chunk.upload} were admitted and are no longer kept")
    if (known.digest, known.num_rows, known.crc) != (chunk.address.digest, chunk.num_rows, chunk.crc):
        raise Conflict(f"upload {chunk.upload} has another chunk {chunk.sequence}")


def _lock_run(connection: Connection, run: str) -> str:
    """The run's state, which stays as it is until the transaction ends."""
    state = connection.scalar(select(RUNS.c.state).where(RUNS.c.run == run).with_for_update())
    if state is None:
        raise KeyError(run)
    return str(state)


def _must_receive(run: str, state: str | None) -> None:
    if state != _RECEIVING:
        raise Conflict(f"run {run} is {state} and takes no more rows")


def _upload(upload: str) -> Select[Any]:
    return select(UPLOADS).where(UPLOADS.c.upload == upload)


def _upload_of(row: Row[Any]) -> Upload:
    return Upload(
        upload=row.upload,
        run=row.run,
        num_expected=row.num_expected,
        digest=row.digest,
        num_chunks=row.num_chunks,
        num_rows=row.num_rows,
        is_complete=row.is_complete,
    )


def _chunk_of(row: Row[Any]) -> Chunk:
    return Chunk(
        upload=row.upload,
        sequence=row.sequence,
        address=sql_rows.address_of(row),
        num_rows=row.num_rows,
        crc=row.crc,
    )
