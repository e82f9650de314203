"""The gRPC face of ingestion: runs, their prompts, how they stand and how they ended.

Registered by the ingestion program, which hands in what lies outside of the slice (`needs`). A run is moved between
states here, and worked on elsewhere: whoever seals, feeds and coordinates looks at the same table. No method but
`GetTrajectoryText` answers with words of prompts or models; the audit entry for those is written by the server's chain
before the method runs.
"""
# ruff: noqa: N802 - methods are called what the proto calls them

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb
from tracemend.api.records.v1 import records_pb2
from tracemend.ingestion.needs import Books, DeadLetters, LetterFilter, OutcomeQuery, Plans, Redriving, Stories
from tracemend.ingestion.run_views import Watching, run_message, state_of, timestamp
from tracemend.ingestion.uploads import RUN, UPLOAD, UploadDesk, UploadSettings, message_of
from tracemend.kit.ports import Store
from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import Conflict, RunRecord, Runs, Uploads
from tracemend.kit.telemetry import NO_TELEMETRY, Telemetry
from tracemend.records import OutcomeState
from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.faults import Code, Fault, conflict, invalid, not_found, precondition
from tracemend.runtime.rpc.names import check_etag, format_name, parse_name
from tracemend.runtime.rpc.pages import Pages
from tracemend.runtime.rpc.server import Registration
from tracemend.runtime.rpc.validators import Validators, at_most, between, check, matching, required, within
from tracemend.runtime.views import concluded_view, outcome_view, prompt_view, verdict_view

LETTER = "runs/{run}/deadLetters/{letter}"
TRAJECTORY = "runs/{run}/trajectories/{trajectory}"
MAX_PLAN_BYTES = 4 * 2**20
_RUNS_PER_PAGE = 50
_OUTCOME_STATES = {getattr(records_pb2, f"OUTCOME_STATE_{state.name}"): state for state in OutcomeState}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingestion:
    """What the servicer works on."""

    runs: Runs
    uploads: Uploads
    store: Store
    plans: Plans
    books: Books
    redriving: Redriving
    stories: Stories
    letters: DeadLetters
    telemetry: Telemetry = NO_TELEMETRY


class Desk(Protocol):
    """Takes streams of prompts: `UploadDesk`, unless something else is measured."""

    def receive(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]: ...


class IngestionServicer:
    """`tracemend.api.ingestion.v1.IngestionService`."""

    def __init__(
        self, parts: Ingestion, *, pages: Pages, uploads: UploadSettings | None = None, desk: Desk | None = None
    ) -> None:
        self._parts = parts
        self._pages = pages
        self._desk = desk or UploadDesk(
            uploads=parts.uploads,
            store=parts.store,
            settings=uploads or UploadSettings(),
            telemetry=parts.telemetry,
        )
        self._watching = Watching(runs=parts.runs, books=parts.books)

    # ------------------------------------------------------------------------------------------- runs

    async def CreateRun(self, request: Any, call: Call) -> Any:
        digest = hashlib.sha256(request.plan).hexdigest()
        if request.plan_digest.lower() != digest:
            raise invalid(plan_digest="is not the SHA-256 of `plan`")
        checked = await self._parts.plans.check(request.plan)
        name = format_name(RUN, checked.run)
        record = RunRecord(
            run=checked.run, name=checked.name, plan=digest, target=checked.target, submitted_by=call.caller.name
        )
        existing = await self._parts.runs.get(checked.run)
        if existing is not None and (existing.state is not RunState.PAUSED or existing.plan == digest):
            raise _exists(name)
        if request.validate_only:
            return pb.CreateRunResponse(run=run_message(record))
        stored = await self._parts.store.put(request.plan)
        assert stored == digest, "a store names its blobs by their SHA-256"
        try:
            return pb.CreateRunResponse(run=run_message(await self._parts.runs.create(record)))
        except Conflict:
            raise _exists(name) from None

    async def GetRun(self, request: Any, call: Call) -> Any:
        (run,) = parse_name(request.name, RUN)
        return pb.GetRunResponse(run=await self._watching.look(run))

    async def ListRuns(self, request: Any, call: Call) -> Any:
        size, after = self._pages.size(request, default=_RUNS_PER_PAGE), self._pages.place(request)
        try:
            states = frozenset(state_of(number) for number in request.states)
            found = await self._parts.runs.page(after=after, limit=size + 1, states=states)
        except KeyError:
            raise invalid(states="names an unknown state, or the token's run is gone") from None
        last = found[size - 1].run if len(found) > size else ""
        runs = [run_message(record) for record in found[:size]]
        return pb.ListRunsResponse(runs=runs, next_page_token=self._pages.token(request, last))

    async def CancelRun(self, request: Any, call: Call) -> Any:
        return pb.CancelRunResponse(run=await self._move(request, RunState.CANCELLED, reason="cancelled by request"))

    async def PauseRun(self, request: Any, call: Call) -> Any:
        record = await self._record(request.name)
        if record.state is RunState.DONE:  # may be worked on again, and so put aside, but not by a user who came late
            raise _illegal(record, RunState.PAUSED)
        return pb.PauseRunResponse(run=await self._move(request, RunState.PAUSED, reason="paused by request"))

    async def ResumeRun(self, request: Any, call: Call) -> Any:
        return pb.ResumeRunResponse(run=await self._move(request, RunState.RUNNING))

    async def WatchRun(self, request: Any, call: Call) -> AsyncIterator[Any]:
        (run,) = parse_name(request.name, RUN)
        async for message in self._watching.watch(run, cursor=request.cursor):
            yield message

    # ---------------------------------------------------------------------------------------- prompts

    async def UploadPrompts(self, requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
        async for upload in self._desk.receive(requests):
            yield pb.UploadPromptsResponse(upload=upload)

    async def GetUpload(self, request: Any, call: Call) -> Any:
        run, upload = parse_name(request.name, UPLOAD)
        found = await self._parts.uploads.mark(upload)
        if found is None or found.run != run:
            raise not_found(request.name)
        return pb.GetUploadResponse(upload=message_of(found))

    async def SealRun(self, request: Any, call: Call) -> Any:
        record = await self._record(request.name)
        if record.state is RunState.RECEIVING and not record.num_rows:
            raise precondition("NO_ROWS", "the run has no rows: complete an upload first", name=request.name)
        if request.validate_only:
            check_etag(request.etag, record.etag, name=request.name)
            if record.state is not RunState.RECEIVING:
                raise _illegal(record, RunState.SEALED)
            return pb.SealRunResponse(run=run_message(record))
        return pb.SealRunResponse(run=await self._move(request, RunState.SEALED))

    # ----------------------------------------------------------------------------------------- results

    async def ListOutcomes(self, request: Any, call: Call) -> Any:
        record = await self._record(request.parent, field="parent")
        unknown = set(request.states) - set(_OUTCOME_STATES)
        if unknown:
            raise invalid(states="names an unknown state")
        query = OutcomeQuery(
            run=record.run,
            arm=request.arm,
            states=frozenset(_OUTCOME_STATES[number] for number in request.states),
            reason=request.reason,
            prompt=request.prompt,
        )
        found, place = await self._parts.books.outcomes(
            query, after=self._pages.place(request), limit=self._pages.size(request)
        )
        outcomes = [concluded_view(concluded) for concluded in found]
        return pb.ListOutcomesResponse(outcomes=outcomes, next_page_token=self._pages.token(request, place))

    async def RedriveUnits(self, request: Any, call: Call) -> Any:
        record = await self._record(request.parent, field="parent")
        if not request.validate_only and record.state in (RunState.RECEIVING, RunState.SEALED, RunState.CANCELLED):
            raise precondition("ILLEGAL_STATE", f"the run is {record.state}: it has nothing to redrive")
        redriven = await self._parts.redriving.redrive(
            record.run, arm=request.arm, reason=request.reason, dry_run=request.validate_only
        )
        return pb.RedriveUnitsResponse(num_units=redriven.num_units, prompts=redriven.prompts, reasons=redriven.reasons)

    async def ListDeadLetters(self, request: Any, call: Call) -> Any:
        which = await self._which(request)
        size, page = self._pages.size(request), []
        async for letter in self._parts.letters.letters(which, after=self._pages.place(request)):
            page.append(letter)
            if len(page) > size:
                break
        last = page[size - 1].id if len(page) > size else ""
        messages = [
            pb.DeadLetter(
                name=format_name(LETTER, which.run, letter.id),
                topic=letter.topic,
                stage=letter.stage,
                reason=letter.reason,
                record=letter.record,
                create_time=timestamp(letter.time_s),
                num_bytes=letter.num_bytes,
            )
            for letter in page[:size]
        ]
        return pb.ListDeadLettersResponse(dead_letters=messages, next_page_token=self._pages.token(request, last))

    async def RedriveDeadLetters(self, request: Any, call: Call) -> Any:
        matched, published = await self._parts.letters.redrive(
            await self._which(request),
            max_messages=request.max_messages,
            rate_per_s=request.rate_per_s,
            dry_run=request.validate_only,
        )
        return pb.RedriveDeadLettersResponse(num_matched=matched, num_published=published)

    async def TraceRecord(self, request: Any, call: Call) -> Any:
        record = await self._record(request.parent, field="parent")
        story = await self._parts.stories.tell(record.run, request.id)
        return pb.TraceRecordResponse(
            matched=story.matched,
            row=story.row,
            prompt=prompt_view(story.prompt),
            samples=map(verdict_view, story.samples),
            rewrites=map(verdict_view, story.rewrites),
            forks=map(verdict_view, story.forks),
            outcomes=map(outcome_view, story.outcomes),
            published=[
                pb.PublishedRow(arm=row.arm, row=row.row, example=row.example, sample=row.sample)
                for row in story.published
            ],
            num_open_units=story.num_open,
        )

    async def GetTrajectoryText(self, request: Any, call: Call) -> Any:
        run, wanted = parse_name(request.name, TRAJECTORY)
        await self._record(format_name(RUN, run))
        trajectory = await self._parts.stories.trajectory(run, wanted)
        if trajectory is None:
            raise not_found(request.name)
        return pb.GetTrajectoryTextResponse(
            prompt=trajectory.prompt.text.reveal(),
            reasoning=trajectory.reasoning.reveal(),
            answer=trajectory.answer.reveal(),
        )

    # ------------------------------------------------------------------------------------------------

    async def _record(self, name: str, *, field: str = "name") -> RunRecord:
        (run,) = parse_name(name, RUN, field=field)
        record = await self._parts.runs.get(run)
        if record is None:
            raise not_found(name)
        return record

    async def _move(self, request: Any, state: RunState, *, reason: str = "") -> Any:
        """The run in `state`, with counts. What forbids it is told apart: an old etag, or the state it is in."""
        record = await self._record(request.name)
        check_etag(request.etag, record.etag, name=request.name)
        try:
            await self._parts.runs.set_state(record.run, state, expected_etag=request.etag, reason=reason)
        except Conflict:
            changed = await self._record(request.name)
            if request.etag and changed.etag != record.etag:
                raise conflict(request.name, "the run has changed since it was read; read it again") from None
            raise _illegal(changed, state) from None
        self._watching.changed(record.run)
        return await self._watching.look(record.run)

    async def _which(self, request: Any) -> LetterFilter:
        record = await self._record(request.parent, field="parent")
        wanted = request.filter
        return LetterFilter(run=record.run, topic=wanted.topic, stage=wanted.stage, reason=wanted.reason)


def registration(servicer: IngestionServicer) -> Registration:
    """What a server needs to serve it."""
    return Registration(
        service=pb.DESCRIPTOR.services_by_name["IngestionService"], servicer=servicer, validators=_VALIDATORS
    )


_PACKAGE = "tracemend.api.ingestion.v1"
_WORD = r"[^\x00-\x1f\x7f]{1,128}"
"""A filter's value: what no database refuses to compare with."""
_LETTER_FILTER = check(matching("topic", _WORD), matching("stage", _WORD), matching("reason", _WORD))
_VALIDATORS: Validators = {
    f"{_PACKAGE}.CreateRunRequest": check(required("plan", "plan_digest"), at_most("plan", MAX_PLAN_BYTES)),
    f"{_PACKAGE}.ListDeadLettersRequest": within("filter", _LETTER_FILTER),
    f"{_PACKAGE}.ListOutcomesRequest": check(
        matching("arm", _WORD),
        matching("reason", _WORD),
        matching("prompt", _WORD),
        at_most("states", len(OutcomeState)),
    ),
    f"{_PACKAGE}.ListRunsRequest": at_most("states", len(RunState)),
    f"{_PACKAGE}.RedriveDeadLettersRequest": check(
        within("filter", _LETTER_FILTER), between("max_messages", 0, 10**9), between("rate_per_s", 0, 10**6)
    ),
    f"{_PACKAGE}.RedriveUnitsRequest": check(matching("arm", _WORD), matching("reason", _WORD)),
    f"{_PACKAGE}.TraceRecordRequest": check(required("id"), matching("id", _WORD)),
    f"{_PACKAGE}.UploadPromptsRequest": within("header", matching("content_digest", _WORD)),
    f"{_PACKAGE}.WatchRunRequest": at_most("cursor", 128),
}


def _exists(name: str) -> Fault:
    message = f"{name} is this very work, submitted before: watch it, or change the run file's name"
    return Fault(Code.ALREADY_EXISTS, "RUN_EXISTS", message, metadata={"name": name})


def _illegal(record: RunRecord, state: RunState) -> Fault:
    message = f"the run is {record.state}, from where it cannot become {state}"
    return precondition("ILLEGAL_STATE", message, name=format_name(RUN, record.run), state=record.state)
