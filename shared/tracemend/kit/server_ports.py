"""What the services keep beside the ledger: runs as users see them, uploads, repeated requests, audit, leases, jobs.

Implemented over the ledger's own database (`adapters.sql_server`), opened by `runtime.opening.open_server_tables`, used
by servicers and programs. As in the ledger, first writers win, times are seconds since 1970, nothing holds text of
prompts or models, and what a method wrote survives kills and power cuts once it has returned. Everything may raise
`Retry` while the database is out of reach; whoever asks again after an answer that was lost gets the same answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from tracemend.kit.errors import TracemendError
from tracemend.kit.ports import Address
from tracemend.kit.run_states import RunState


class Conflict(TracemendError):
    """Somebody else was first, or what is asked does not fit the state that things are in; nothing was changed."""


class Gap(Conflict):
    """A chunk came before the ones that it follows; send `expected` next."""

    def __init__(self, message: str, *, expected: int) -> None:
        super().__init__(message)
        self.expected = expected


class Fenced(Conflict):
    """An attempt at a job that is not the newest, or whose job has ended: stop, another one works in its place."""


# ----------------------------------------------------------------------------------------------- runs


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as its users see it. `run` and `plan` are the ledger's: both name the same row."""

    run: str
    """Its id: the last part of the resource name `runs/RUN`."""
    name: str = ""
    """What the submitter calls it."""
    state: RunState = RunState.RECEIVING
    etag: str = ""
    """Changes with every change of the record; opaque."""
    plan: str
    """Digest of the resolved plan in the store."""
    target: str = ""
    """Name of the served target that its samples are drawn from."""
    submitted_by: str = ""
    reason: str = ""
    """Why it is paused, cancelled or failed, as a reason code or a message of ours."""
    num_rows: int = 0
    """Rows received in completed uploads."""
    num_admitted: int | None = None
    """None until the intake is sealed, as `num_refused`."""
    num_refused: int | None = None
    created_s: float = 0.0
    updated_s: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    """The submitter's own words to find it by."""


class Runs(Protocol):
    """The runs, and their moves between states by `run_states.TRANSITIONS`."""

    async def create(self, record: RunRecord) -> RunRecord:
        """Enter `record` as it is, save state (receiving), etag, counts and times, which are given here; the stored
        record. The first writer wins: one with the same run, plan, name, target and submitter gets what is stored, any
        other `Conflict`. But a paused run takes another plan from its submitter: it goes on under that one."""
        ...

    async def get(self, run: str) -> RunRecord | None: ...

    async def page(
        self, *, after: str = "", limit: int = 100, states: Collection[RunState] = ()
    ) -> Sequence[RunRecord]:
        """At most `limit` runs, the newest first, that come after the run `after`; of `states` only, where given.
        `KeyError` if there is no run `after`."""
        ...

    async def set_state(self, run: str, state: RunState, *, expected_etag: str = "", reason: str = "") -> RunRecord:
        """Move `run` to `state`; being there already changes nothing. `KeyError` if there is no such run; `Conflict`
        if the move is not legal, or the etag is no longer `expected_etag` where that is given."""
        ...


# -------------------------------------------------------------------------------------------- uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """How far an upload has come."""

    upload: str
    run: str
    num_expected: int
    """Rows that were announced; -1 where the sender did not know."""
    digest: str
    """Of the whole content, as the sender announced it; empty where it did not."""
    num_chunks: int = 0
    """The high-water mark: chunks 0 to `num_chunks` - 1 are durable, and `num_chunks` is the sequence to send next."""
    num_rows: int = 0
    is_complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some rows of an upload, whose bytes lie at `address`."""

    upload: str
    sequence: int
    """Counted from 0."""
    address: Address
    num_rows: int
    crc: int


class Uploads(Protocol):
    """Resumable uploads of rows into runs that are receiving; `Conflict` where the run no longer is."""

    async def begin(self, run: str, upload: str, *, num_expected: int = -1, digest: str = "") -> Upload:
        """Begin or find an upload; how far it has come. `Conflict` if it was begun with other values; `KeyError` if
        there is no such run."""
        ...

    async def append(self, upload: str, sequence: int, *, address: Address, num_rows: int, crc: int) -> int:
        """Make a chunk part of the upload; the new high-water mark. A chunk that is there already changes nothing;
        `Conflict` if another one is there under its sequence, or the upload is complete; `Gap` if one before it is
        missing; `KeyError` if the upload was never begun."""
        ...

    async def mark(self, upload: str) -> Upload | None:
        """How far it has come; None if it was never begun."""
        ...

    async def complete(self, upload: str) -> Upload:
        """No more chunks: its rows count from now on in `RunRecord.num_rows`. Again is no error. `Conflict` if another
        number of rows was announced."""
        ...

    def chunks(self, run: str) -> AsyncIterator[Chunk]:
        """The chunks of the run's complete uploads: uploads in the order they began, chunks by sequence."""
        ...

    async def discard(self, run: str) -> int:
        """Forget the chunks of a run whose intake is sealed, so that `gc` may drop what they held; how many."""
        ...


# ------------------------------------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What a request was answered."""

    digest: str
    """Of the request: the same id with another content is the caller's mistake."""
    response: bytes


class Requests(Protocol):
    """Answers by request id, so that a repeated request has one effect and one answer."""

    async def recall(self, principal: str, method: str, request_id: str) -> Remembered | None: ...

    async def remember(
        self, principal: str, method: str, request_id: str, *, digest: str, response: bytes
    ) -> Remembered:
        """Keep an answer; what is kept, which is another one's where that was first."""
        ...

    async def expire(self, *, before_s: float) -> int:
        """Drop answers that were given before a time, some thousands at most in one call; how many."""
        ...


# ---------------------------------------------------------------------------------------------- audit


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Somebody did something that must be accounted for. Never text of prompts or models."""

    principal: str
    action: str
    """The full method name, or what a program did."""
    resource: str
    """Resource name of what it was done to."""
    purpose: str = ""
    """Why, in the principal's own words."""
    request_id: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainedEntry:
    """An entry in its place in the chain."""

    number: int
    """Counted from 1, without holes."""
    time_s: float
    entry: AuditEntry
    previous: str
    """`digest` of the entry before it."""
    digest: str
    """SHA-256 over `previous`, the number, the time and the entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainHead:
    """The last entry of the chain, to be kept elsewhere: entries cut off at the end are found out by an older head."""

    number: int = 0
    digest: str = ""


class AuditLog(Protocol):
    """An append-only log in which every entry names the one before it by its digest."""

    async def append(self, entry: AuditEntry) -> ChainedEntry:
        """Durable when this returns: append before the effect, and have no effect where this raises."""
        ...

    async def entries(self, *, after: int = 0, limit: int = 100) -> Sequence[ChainedEntry]:
        """At most `limit` entries with a number above `after`, in order."""
        ...

    async def head(self) -> ChainHead: ...

    async def verify(self, *, anchor: ChainHead | None = None) -> int | None:
        """Number of the first entry that is changed, missing or out of order, also by what `anchor` says, a head that
        was kept elsewhere; None where the chain holds."""
        ...


# --------------------------------------------------------------------------------------------- leases


class Lease(Protocol):
    """Held until its context ends or its connection is lost."""

    @property
    def name(self) -> str: ...

    @property
    def is_lost(self) -> bool: ...

    async def lost(self) -> None:
        """Returns when the lease is lost: stop then, somebody else may hold it already."""
        ...


class Leases(Protocol):
    """One holder at a time of each name in the whole cluster.

    A holder whose connection breaks learns it within seconds, which may be later than the next holder's start: a lease
    keeps two from doing the same work as a rule, and `Jobs` and first-writer-wins keep it harmless as an exception.
    """

    def hold(self, name: str) -> AbstractAsyncContextManager[Lease]:
        """Waits for its turn."""
        ...

    def try_hold(self, name: str) -> AbstractAsyncContextManager[Lease | None]:
        """None if somebody holds it."""
        ...


# ----------------------------------------------------------------------------------------------- jobs


class JobState(StrEnum):
    """Where a job stands. Failed ones may be started again; those that are done or cancelled may not."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A training or an evaluation, over all of its attempts."""

    key: str
    """Digest of its inputs: the same work has the same key."""
    plan: str
    """Digest of what it works from, in the store."""
    kind: str = ""
    """`training`, `evaluation`, …"""
    run: str = ""
    state: JobState = JobState.RUNNING
    attempt: int = 0
    """The newest one, counted from 1: the only one that may report."""
    progress: Mapping[str, float] = field(default_factory=dict)
    """What the newest attempt last told: `step`, `num_steps`, `loss`, …"""
    address: Address | None = None
    """The result of a job that is done, or what one that has failed could do of it."""
    reason: str = ""
    """Why it failed or was cancelled."""
    etag: str = ""
    submitted_by: str = ""
    created_s: float = 0.0
    updated_s: float = 0.0


class Jobs(Protocol):
    """Jobs whose attempts are fenced: only the newest may report and finish, so a double launch is harmless."""

    async def start(self, key: str, *, plan: str, kind: str = "", run: str = "", submitted_by: str = "") -> int:
        """Begin an attempt, the first of which makes the job; its number. Attempts before it are fenced off.
        `Conflict` if the job is done or cancelled, or was made from another plan."""
        ...

    async def progress(self, key: str, attempt: int, told: Mapping[str, float]) -> JobRecord:
        """Replace what the attempt told before; `Fenced` unless it is the newest of a running job."""
        ...

    async def finish(self, key: str, attempt: int, *, address: Address) -> JobRecord:
        """The job is done; `Fenced` as `progress`, save that the attempt that finished it may say so again."""
        ...

    async def fail(self, key: str, attempt: int, *, reason: str, address: Address | None = None) -> JobRecord:
        """The job has failed, until it is started again; `Fenced` as `finish`. `address`: of what it did even so."""
        ...

    async def cancel(self, key: str, *, expected_etag: str = "", reason: str = "") -> JobRecord:
        """End a job that is running or failed: its attempt is fenced off. Again is no error. `Conflict` if it is done,
        or its etag is no longer `expected_etag` where that is given; `KeyError` if there is no such job."""
        ...

    async def get(self, key: str) -> JobRecord | None: ...

    async def page(
        self,
        *,
        after: str = "",
        limit: int = 100,
        kind: str = "",
        run: str = "",
        states: Collection[JobState] = (),
    ) -> Sequence[JobRecord]:
        """At most `limit` jobs, the newest first, that come after the job `after`; of a kind, a run and states only,
        where given. `KeyError` if there is no job `after`."""
        ...


# ------------------------------------------------------------------------------------------------ all


class ServerTables(Protocol):
    """All of the above over one database, and closed together."""

    @property
    def runs(self) -> Runs: ...

    @property
    def uploads(self) -> Uploads: ...

    @property
    def requests(self) -> Requests: ...

    @property
    def audit(self) -> AuditLog: ...

    @property
    def leases(self) -> Leases: ...

    @property
    def jobs(self) -> Jobs: ...

    async def aclose(self) -> None: ...
