"""The asyncio client. `blocking` wraps it for everybody else."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb
from tracemend.api.records.v1 import records_pb2
from tracemend.client.connection import Connection, Credentials, delays
from tracemend.client.errors import CallError
from tracemend.client.rows import AnyRow
from tracemend.client.uploading import Progress, Upload
from tracemend.client.values import DeadLetter, OutcomeRow, Redriven, RunStatus, TrajectoryText
from tracemend.kit.run_states import RunState
from tracemend.records import OutcomeState
from tracemend.redaction import Text

_SCHEMA_VERSION = 1
_PAGE = 1000
_SILENCE_S = 45.0
"""A watch that hears nothing for so long is begun anew: the server speaks every ten seconds."""
_REDRIVE_S = 20.0
"""How long one call that redrives at a rate may take."""


class AsyncClient:
    """A cluster's front door: the ingestion service at `address` (HOST:PORT, or any gRPC target).

    Calls that fail because the service is out of reach are made again for `patience_s` seconds; `on_wait` is told of
    every failure that is waited out. Raises `CallError` for
    what the service refuses, and `SetupError` for files that cannot be read.
    """

    def __init__(
        self,
        address: str,
        *,
        ca_file: str | Path | None = None,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
        token_file: str | Path | None = None,
        plaintext: bool = False,
        timeout_s: float = 60.0,
        patience_s: float = 120.0,
        on_wait: Callable[[CallError], None] | None = None,
    ) -> None:
        self._address = address
        self._credentials = Credentials(
            ca_file=_path(ca_file),
            cert_file=_path(cert_file),
            key_file=_path(key_file),
            token_file=_path(token_file),
            plaintext=plaintext,
        )
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._on_wait = on_wait
        self._connected: Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection."""
        connected, self._connected = self._connected, None
        if connected is not None:
            await connected.aclose()

    @property
    def connection(self) -> Connection:
        """Made on first use, in the loop that uses it."""
        if self._connected is None:
            from tracemend.api.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub

            self._connected = Connection(
                self._address,
                stub=IngestionServiceStub,
                credentials=self._credentials,
                timeout_s=self._timeout_s,
                patience_s=self._patience_s,
                on_wait=self._on_wait,
            )
        return self._connected

    async def submit(
        self,
        plan: bytes,
        prompts: Iterable[AnyRow] | AsyncIterable[AnyRow],
        *,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> AsyncRun:
        """Begin the run that `plan` (a resolved run file as JSON) describes, upload its prompts and seal it.

        Safe to repeat: a run that was begun before is found again, and its upload goes on where it was cut off, if
        `prompts` gives the same rows. A run that is sealed is returned as it is.
        """
        run = await self.begin(plan)
        if (await run.status()).state is RunState.RECEIVING:
            await run.upload(prompts, upload=_name_of(run, plan), on_progress=on_progress)
            await run.seal()
        return run

    async def begin(self, plan: bytes) -> AsyncRun:
        """Begin a run, or find the one that this plan has begun before."""
        try:
            response = await self._create(plan, validate_only=False)
        except CallError as error:
            if error.reason != "RUN_EXISTS":
                raise
            return AsyncRun(self.connection, error.metadata["name"])
        return AsyncRun(self.connection, response.run.name)

    async def check(self, plan: bytes) -> RunStatus:
        """What `begin` would begin; nothing is changed."""
        return RunStatus.of((await self._create(plan, validate_only=True)).run)

    async def _create(self, plan: bytes, *, validate_only: bool) -> Any:
        request = pb.CreateRunRequest(
            plan=plan,
            plan_digest=hashlib.sha256(plan).hexdigest(),
            request_id=new_request_id(),
            validate_only=validate_only,
        )
        return await self.connection.call("CreateRun", request)

    def run(self, run: str) -> AsyncRun:
        """The run with an id or a name `runs/RUN`; that it is there is found out by the first call."""
        return AsyncRun(self.connection, run if run.startswith("runs/") else f"runs/{run}")

    async def runs(self, *, states: Iterable[RunState] = ()) -> AsyncGenerator[RunStatus, None]:
        """All runs, or those in `states`, the newest first."""
        request = pb.ListRunsRequest(
            page_size=_PAGE, states=[pb.Run.State.Value(f"STATE_{RunState(state).name}") for state in states]
        )
        async for response in _pages(self.connection, "ListRuns", request):
            for run in response.runs:
                yield RunStatus.of(run)


class AsyncRun:
    """A run on the cluster."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self.name = name
        """`runs/RUN`."""

    @property
    def id(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]

    async def status(self) -> RunStatus:
        """How it stands."""
        return RunStatus.of((await self._connection.call("GetRun", pb.GetRunRequest(name=self.name))).run)

    async def upload(
        self,
        prompts: Iterable[AnyRow] | AsyncIterable[AnyRow],
        *,
        upload: str = "",
        num_rows: int = 0,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Progress:
        """Upload prompts; returns when all of them are durable. `upload` names it: given the name of one that was cut
        off, and the same rows, it goes on. `num_rows`, where given, is how many must arrive."""
        header = pb.UploadHeader(
            parent=self.name,
            request_id=upload or new_request_id(),
            num_expected_rows=num_rows,
            schema_version=_SCHEMA_VERSION,
        )
        return await Upload(self._connection, header, prompts, on_progress=on_progress).run()

    async def seal(self) -> RunStatus:
        """No more prompts will come."""
        return await self._move("SealRun", pb.SealRunRequest(name=self.name, request_id=new_request_id()))

    async def cancel(self) -> RunStatus:
        """End it for good."""
        return await self._move("CancelRun", pb.CancelRunRequest(name=self.name, request_id=new_request_id()))

    async def pause(self) -> RunStatus:
        """Halt it; `resume` goes on."""
        return await self._move("PauseRun", pb.PauseRunRequest(name=self.name, request_id=new_request_id()))

    async def resume(self) -> RunStatus:
        """Go on with it."""
        return await self._move("ResumeRun", pb.ResumeRunRequest(name=self.name, request_id=new_request_id()))

    async def _move(self, method: str, request: Any) -> RunStatus:
        return RunStatus.of((await self._connection.call(method, request)).run)

    async def watch(self) -> AsyncGenerator[RunStatus, None]:
        """The run's status now, whenever it changes, and at least every ten seconds; ends with the run. Connections
        that are lost are opened anew."""
        waits, cursor = delays(self._connection.patience_s), ""
        while True:
            try:
                async with aclosing(self._watched(cursor)) as responses:
                    async for response in responses:
                        waits, cursor = delays(self._connection.patience_s), response.cursor
                        status = RunStatus.of(response.run)
                        yield status
                        if status.state.is_final:
                            return
                failed = CallError("UNAVAILABLE", "the server ended the watch")
            except CallError as error:
                failed = error
            await self._connection.pause(failed, waits)

    async def _watched(self, cursor: str) -> AsyncGenerator[Any, None]:
        """The messages of one stream."""
        import grpc

        call = self._connection.stream("WatchRun", pb.WatchRunRequest(name=self.name, cursor=cursor))
        try:
            while (response := await asyncio.wait_for(call.read(), _SILENCE_S)) is not grpc.aio.EOF:
                yield response
        except TimeoutError:
            raise CallError("UNAVAILABLE", f"{self._connection.address} went silent") from None
        except grpc.aio.AioRpcError as error:
            raise self._connection.failure(error) from None
        finally:
            call.cancel()

    async def wait(self) -> RunStatus:
        """The status once the run is done, failed or cancelled."""
        last = None
        async with aclosing(self.watch()) as statuses:
            async for status in statuses:
                last = status
        assert last is not None, "a watch ends with a final status"
        return last

    async def outcomes(
        self, *, arm: str = "", states: Iterable[OutcomeState] = (), reason: str = "", prompt: str = ""
    ) -> AsyncGenerator[OutcomeRow, None]:
        """How units ended, by arm, row, sample and variant; only those that fit what is given."""
        request = pb.ListOutcomesRequest(
            parent=self.name,
            page_size=_PAGE,
            arm=arm,
            states=[records_pb2.OutcomeState.Value(f"OUTCOME_STATE_{OutcomeState(s).name}") for s in states],
            reason=reason,
            prompt=prompt,
        )
        async for response in _pages(self._connection, "ListOutcomes", request):
            for view in response.outcomes:
                yield OutcomeRow.of(view)

    async def redrive(self, *, arm: str = "", reason: str = "", dry_run: bool = False) -> Redriven:
        """Open units that are dead, rejected or given up anew."""
        request = pb.RedriveUnitsRequest(
            parent=self.name, request_id=new_request_id(), arm=arm, reason=reason, validate_only=dry_run
        )
        response = await self._connection.call("RedriveUnits", request)
        return Redriven(num_units=response.num_units, prompts=dict(response.prompts), reasons=dict(response.reasons))

    async def dead_letters(
        self, *, topic: str = "", stage: str = "", reason: str = ""
    ) -> AsyncGenerator[DeadLetter, None]:
        """Messages that were given up, the oldest first."""
        which = pb.DeadLetterFilter(topic=topic, stage=stage, reason=reason)
        request = pb.ListDeadLettersRequest(parent=self.name, page_size=_PAGE, filter=which)
        async for response in _pages(self._connection, "ListDeadLetters", request):
            for letter in response.dead_letters:
                yield DeadLetter.of(letter)

    async def redrive_dead_letters(
        self,
        *,
        topic: str = "",
        stage: str = "",
        reason: str = "",
        max_messages: int = 0,
        rate_per_s: float = 0.0,
        dry_run: bool = False,
    ) -> tuple[int, int]:
        """Publish dead letters again: (matched, published). With a rate it takes as long as that means, in calls that
        each end within their deadline; letters that are given up again meanwhile are not published twice."""
        which = pb.DeadLetterFilter(topic=topic, stage=stage, reason=reason)

        async def redrive(most: int, *, dry_run: bool) -> Any:
            request = pb.RedriveDeadLettersRequest(
                parent=self.name,
                request_id=new_request_id(),
                filter=which,
                max_messages=most,
                rate_per_s=rate_per_s,
                validate_only=dry_run,
            )
            return await self._connection.call("RedriveDeadLetters", request)

        if dry_run or not rate_per_s:
            response = await redrive(max_messages, dry_run=dry_run)
            return response.num_matched, response.num_published
        matched, published = (await redrive(0, dry_run=True)).num_matched, 0
        at_once, left = max(1, int(rate_per_s * _REDRIVE_S)), min(matched, max_messages or matched)
        while published < left:
            sent = (await redrive(min(at_once, left - published), dry_run=False)).num_published
            published += sent
            if not sent or published >= left:
                break
            await asyncio.sleep(max(1.0, 1 / rate_per_s))
        return matched, published

    async def trace(self, record: str) -> dict[str, Any]:
        """Everything that the run knows of the prompt that an id belongs to, as `TraceRecordResponse` in JSON's terms:
        texts are digests."""
        from google.protobuf.json_format import MessageToDict

        response = await self._connection.call("TraceRecord", pb.TraceRecordRequest(parent=self.name, id=record))
        story: dict[str, Any] = MessageToDict(
            response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return story

    async def text(self, trajectory: str, *, purpose: str) -> TrajectoryText:
        """The words of a trajectory, for reviewers; `purpose` goes into the audit log."""
        request = pb.GetTrajectoryTextRequest(name=f"{self.name}/trajectories/{trajectory}")
        response = await self._connection.call("GetTrajectoryText", request, purpose=purpose)
        return TrajectoryText(
            prompt=Text(response.prompt), reasoning=Text(response.reasoning), answer=Text(response.answer)
        )


def new_request_id() -> str:
    """A name for one wish: the same call made again has one effect."""
    return str(uuid.uuid4())


def _name_of(run: AsyncRun, plan: bytes) -> str:
    """The upload that `submit` makes: the same for whoever submits the same plan again."""
    return f"submit-{hashlib.sha256(run.name.encode() + plan).hexdigest()[:32]}"


async def _pages(connection: Connection, method: str, request: Any) -> AsyncGenerator[Any, None]:
    while True:
        response = await connection.call(method, request)
        yield response
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token


def _path(path: str | Path | None) -> Path | None:
    return Path(path) if path is not None else None
