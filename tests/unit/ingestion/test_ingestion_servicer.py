"""The ingestion service's methods over a real server: runs, pages, watches, outcomes, dead letters, text."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from grpc import aio
from tests import builders
from tests.ingestion_server import Served, ingestion, letter, plan
from tests.rpc_client import call, fault

from tracemend.api.ingestion.v1 import ingestion_service_pb2 as pb
from tracemend.client import AsyncClient, CallError, PromptRow
from tracemend.kit.ids import make_id
from tracemend.kit.ports import Address, AdmittedPrompt, Cost
from tracemend.kit.run_states import RunState
from tracemend.records import Category, Outcome, OutcomeState, Unit
from tracemend.redaction import Text
from tracemend.runtime.rpc.faults import Code
from tracemend.runtime.rpc.methods import methods_of
from tracemend.runtime.rpc.permissions import Role

METHODS = {m.name: m for m in methods_of(pb.DESCRIPTOR.services_by_name["IngestionService"])}
CANARY = "a marked text that must not be seen"


def creating(content: bytes, **fields: Any) -> pb.CreateRunRequest:
    given = {"plan": content, "plan_digest": hashlib.sha256(content).hexdigest(), "request_id": "r-1", **fields}
    return pb.CreateRunRequest(**given)


async def sealed(served: Served, num_rows: int = 2) -> Any:
    """A client's run that was uploaded and sealed."""
    async with AsyncClient(served.address) as client:
        rows = [PromptRow(text=Text(f"row {n}"), category=Category.HARMFUL) for n in range(num_rows)]
        return await client.submit(plan(), rows)


async def test_a_run_is_begun_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, aio.insecure_channel(served.address) as channel:
        first = await call(channel, METHODS["CreateRun"], creating(plan()))
        again = await call(channel, METHODS["CreateRun"], creating(plan()))
        assert first == again
        assert first.run.name == "runs/demo-1"
        assert first.run.state == pb.Run.STATE_RECEIVING
        assert first.run.plan == hashlib.sha256(plan()).hexdigest()
        assert await served.store.get(first.run.plan) == plan()
        another = await fault(channel, METHODS["CreateRun"], creating(plan(), request_id="r-2"))
        assert (another.code, another.reason) == (Code.ALREADY_EXISTS, "RUN_EXISTS")
        assert another.metadata["name"] == "runs/demo-1"
        reused = await fault(channel, METHODS["CreateRun"], creating(plan(seed=1)))
        assert reused.reason == "REQUEST_ID_REUSED"


async def test_a_paused_run_is_given_other_limits_by_submitting_it_again(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, aio.insecure_channel(served.address) as channel:
        await sealed(served)
        raised, create = plan(limits={"tokens": 9}), METHODS["CreateRun"]
        early = await fault(channel, create, creating(raised, request_id="r-2"))
        assert early.code is Code.ALREADY_EXISTS
        for state in (RunState.RUNNING, RunState.PAUSED):
            await served.tables.runs.set_state("demo-1", state)
        taken = (await call(channel, create, creating(raised, request_id="r-3"))).run
        assert (taken.state, taken.plan) == (pb.Run.STATE_PAUSED, hashlib.sha256(raised).hexdigest())
        assert await served.store.get(taken.plan) == raised
        again = await fault(channel, create, creating(raised, request_id="r-4"))
        assert again.code is Code.ALREADY_EXISTS


async def test_plans_that_cannot_work_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, aio.insecure_channel(served.address) as channel:
        create = METHODS["CreateRun"]
        assert "plan_digest" in (await fault(channel, create, creating(plan(), plan_digest="0" * 64))).violations
        unserved = await fault(channel, create, creating(plan(target="large")))
        assert unserved.code is Code.FAILED_PRECONDITION
        assert "large" in unserved.message
        assert (await fault(channel, create, creating(b"no plan"))).code is Code.FAILED_PRECONDITION
        assert "plan" in (await fault(channel, create, creating(b"x" * (4 * 2**20 + 1)))).violations
        checked = await call(channel, create, creating(plan(), validate_only=True))
        assert checked.run.name == "runs/demo-1"
        assert (await call(channel, METHODS["ListRuns"], pb.ListRunsRequest())).runs == []
        assert [digest async for digest in served.store.digests()] == []


async def test_runs_move_between_states_and_say_why_they_may_not(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, aio.insecure_channel(served.address) as channel:
        await sealed(served)
        name = "runs/demo-1"
        early = await fault(channel, METHODS["PauseRun"], pb.PauseRunRequest(name=name, request_id="a"))
        assert (early.code, early.reason) == (Code.FAILED_PRECONDITION, "ILLEGAL_STATE")
        await served.tables.runs.set_state("demo-1", RunState.RUNNING)
        seen = (await call(channel, METHODS["GetRun"], pb.GetRunRequest(name=name))).run
        paused = await call(channel, METHODS["PauseRun"], pb.PauseRunRequest(name=name, request_id="b", etag=seen.etag))
        assert paused.run.state == pb.Run.STATE_PAUSED
        assert paused.run.reason
        late = await fault(
            channel, METHODS["CancelRun"], pb.CancelRunRequest(name=name, request_id="c", etag=seen.etag)
        )
        assert (late.code, late.reason) == (Code.ABORTED, "ETAG_MISMATCH")
        cancelled = await call(channel, METHODS["CancelRun"], pb.CancelRunRequest(name=name, request_id="d"))
        assert cancelled.run.state == pb.Run.STATE_CANCELLED
        for_good = await fault(channel, METHODS["ResumeRun"], pb.ResumeRunRequest(name=name, request_id="e"))
        assert for_good.metadata["state"] == "cancelled"
        entries = await served.tables.audit.entries()
        assert [entry.entry.action.rpartition("/")[2] for entry in entries] == ["CancelRun", "CancelRun"]


async def test_a_run_without_rows_is_not_sealed(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, AsyncClient(served.address) as client:
        run = await client.begin(plan())
        with pytest.raises(CallError) as caught:
            await run.seal()
        assert caught.value.reason == "NO_ROWS"
        await run.upload([{"text": "one", "category": "benign"}])
        assert (await run.seal()).state is RunState.SEALED


async def test_what_is_not_there_is_not_found_and_bad_names_are_told(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, aio.insecure_channel(served.address) as channel:
        for method, request in {
            "GetRun": pb.GetRunRequest(name="runs/none"),
            "WatchRun": pb.WatchRunRequest(name="runs/none"),
            "CancelRun": pb.CancelRunRequest(name="runs/none", request_id="a"),
            "SealRun": pb.SealRunRequest(name="runs/none", request_id="a"),
            "GetUpload": pb.GetUploadRequest(name="runs/none/uploads/x"),
            "ListOutcomes": pb.ListOutcomesRequest(parent="runs/none"),
            "ListDeadLetters": pb.ListDeadLettersRequest(parent="runs/none"),
            "TraceRecord": pb.TraceRecordRequest(parent="runs/none", id="x"),
        }.items():
            assert (await fault(channel, METHODS[method], request)).code is Code.NOT_FOUND, method
        wrong = await fault(channel, METHODS["GetRun"], pb.GetRunRequest(name="runs/../x"))
        assert wrong.code is Code.INVALID_ARGUMENT


async def test_runs_are_listed_in_pages_the_newest_first(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, aio.insecure_channel(served.address) as channel:
        async with AsyncClient(served.address) as client:
            for number in range(5):
                await client.begin(plan(name=f"n{number}"))
            assert [run.display_name async for run in client.runs()] == ["n4", "n3", "n2", "n1", "n0"]
            assert [run.id async for run in client.runs(states=[RunState.DONE])] == []
        listing = METHODS["ListRuns"]
        page = await call(channel, listing, pb.ListRunsRequest(page_size=2))
        assert [run.name for run in page.runs] == ["runs/n4-1", "runs/n3-1"]
        rest = await call(channel, listing, pb.ListRunsRequest(page_size=9, page_token=page.next_page_token))
        assert [run.name for run in rest.runs] == ["runs/n2-1", "runs/n1-1", "runs/n0-1"]
        assert rest.next_page_token == ""
        assert (await fault(channel, listing, pb.ListRunsRequest(page_size=-1))).code is Code.INVALID_ARGUMENT
        other = pb.ListRunsRequest(page_token=page.next_page_token, states=[pb.Run.STATE_DONE])
        assert "page_token" in (await fault(channel, listing, other)).violations
        assert (await fault(channel, listing, pb.ListRunsRequest.FromString(b"\x18\x63"))).code is Code.INVALID_ARGUMENT


async def planned(served: Served, num_prompts: int) -> list[Unit]:
    """`num_prompts` admitted prompts with a unit each, none of them ended."""
    address = Address(pack="0" * 64, offset=0, length=1, digest="1" * 64)
    units = [Unit(arm="mend", prompt=f"prompt_{n:03}", sample=0) for n in range(num_prompts)]
    prompts = [AdmittedPrompt(row=n + 1, prompt=u.prompt, address=address) for n, u in enumerate(units)]
    await served.ledger.admit("demo-1", prompts=prompts, refused=[], units=units)
    return units


async def concluded(served: Served, units: list[Unit], state: OutcomeState, reason: str = "") -> None:
    address = Address(pack="0" * 64, offset=0, length=1, digest="1" * 64)
    made = [Outcome(id=make_id("outcome", unit.prompt), unit=unit, state=state, reason=reason) for unit in units]
    await served.ledger.conclude("demo-1", [(outcome, address) for outcome in made])


async def test_outcomes_are_paged_without_loss_while_more_arrive(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, aio.insecure_channel(served.address) as channel:
        await sealed(served)
        units = await planned(served, 30)
        await concluded(served, units[::3], OutcomeState.KEPT)
        request, seen = pb.ListOutcomesRequest(parent="runs/demo-1", page_size=4), []
        page = await call(channel, METHODS["ListOutcomes"], request)
        seen += [view.unit.prompt for view in page.outcomes]
        await concluded(served, [unit for unit in units if unit not in units[::3]], OutcomeState.DEAD, "lost")
        while page.next_page_token:
            request.page_token = page.next_page_token
            page = await call(channel, METHODS["ListOutcomes"], request)
            seen += [view.unit.prompt for view in page.outcomes]
        assert len(seen) == len(set(seen))
        assert {unit.prompt for unit in units[::3]} <= set(seen)


async def test_a_page_of_outcomes_can_be_asked_of_another_replica(tmp_path: Path) -> None:
    """The walk that gave the first page is not there: the place is found anew."""
    async with ingestion(tmp_path) as served, ingestion(tmp_path) as other:
        await sealed(served)
        units = await planned(served, 10)
        await concluded(served, units, OutcomeState.KEPT)
        async with aio.insecure_channel(served.address) as one, aio.insecure_channel(other.address) as two:
            request = pb.ListOutcomesRequest(parent="runs/demo-1", page_size=6)
            page = await call(one, METHODS["ListOutcomes"], request)
            request.page_token = page.next_page_token
            rest = await call(two, METHODS["ListOutcomes"], request)
        assert [view.unit.prompt for view in (*page.outcomes, *rest.outcomes)] == [unit.prompt for unit in units]


async def test_outcomes_are_filtered_and_counted(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, AsyncClient(served.address) as client:
        await sealed(served)
        units = await planned(served, 6)
        await concluded(served, units[:2], OutcomeState.KEPT)
        await concluded(served, units[2:5], OutcomeState.DEAD, "lost")
        await served.ledger.book_cost(
            "demo-1", Cost(stage="generator", num_items=5, num_new_tokens=70, money=0.5), by="a"
        )
        run = client.run("demo-1")
        dead = [row async for row in run.outcomes(states=[OutcomeState.DEAD], reason="lost", arm="mend")]
        assert [row.prompt for row in dead] == [unit.prompt for unit in units[2:5]]
        assert [row.state async for row in run.outcomes(prompt="prompt_000")] == [OutcomeState.KEPT]
        status = await run.status()
        assert (status.num_received, status.num_units, status.num_ended) == (2, 6, 5)
        assert status.states == {"kept": 2, "dead": 3}
        assert (status.money, status.costs["generator"].num_new_tokens) == (0.5, 70)


async def test_a_watch_tells_changes_and_ends_with_the_run(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, AsyncClient(served.address) as client:
        await sealed(served)
        seen, following = [], [RunState.RUNNING, RunState.DONE]
        async with asyncio.timeout(10):
            async for status in client.run("demo-1").watch():
                seen.append(status.state)
                if following:
                    await served.tables.runs.set_state("demo-1", following.pop(0))
        assert seen == [RunState.SEALED, RunState.RUNNING, RunState.DONE]
        assert (await client.run("demo-1").wait()).state is RunState.DONE


async def test_a_watch_that_goes_on_hears_only_what_it_has_not_heard(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, aio.insecure_channel(served.address) as channel:
        await sealed(served)
        stub = channel.unary_stream(
            METHODS["WatchRun"].path,
            request_serializer=pb.WatchRunRequest.SerializeToString,
            response_deserializer=pb.WatchRunResponse.FromString,
        )
        first = stub(pb.WatchRunRequest(name="runs/demo-1"))
        cursor = (await first.read()).cursor
        first.cancel()
        second = stub(pb.WatchRunRequest(name="runs/demo-1", cursor=cursor))
        reading = asyncio.create_task(second.read())
        done, _ = await asyncio.wait({reading}, timeout=1.5)
        assert not done
        await served.tables.runs.set_state("demo-1", RunState.RUNNING)
        assert (await asyncio.wait_for(reading, 5)).run.state == pb.Run.STATE_RUNNING
        second.cancel()


async def test_text_is_for_reviewers_with_a_purpose_and_leaves_an_entry_first(tmp_path: Path) -> None:
    trajectory = builders.trajectory(builders.prompt(CANARY), reasoning="thought", answer="said")
    async with ingestion(tmp_path) as served, AsyncClient(served.address) as client:
        await sealed(served)
        served.work.trajectories[trajectory.id] = trajectory
        run = client.run("demo-1")
        text = await run.text(trajectory.id, purpose="to see whether the judge erred: ä")
        assert (text.prompt.reveal(), text.reasoning.reveal(), text.answer.reveal()) == (CANARY, "thought", "said")
        assert CANARY not in repr(text)
        (entry,) = await served.tables.audit.entries()
        assert entry.entry.purpose == "to see whether the judge erred: ä"
        assert entry.entry.resource == f"runs/demo-1/trajectories/{trajectory.id}"
        with pytest.raises(CallError) as caught:
            await run.text(trajectory.id, purpose="")
        assert caught.value.reason == "PURPOSE_REQUIRED"
    async with ingestion(tmp_path, roles=frozenset({Role.ADMIN})) as served, AsyncClient(served.address) as client:
        served.work.trajectories[trajectory.id] = trajectory
        with pytest.raises(CallError) as caught:
            await client.run("demo-1").text(trajectory.id, purpose="curiosity of an administrator")
        assert caught.value.code == "PERMISSION_DENIED"
        assert len(await served.tables.audit.entries()) == 1


async def test_a_story_holds_digests_and_no_words(tmp_path: Path) -> None:
    verdict = builders.verdict(of=builders.trajectory(builders.prompt(CANARY), reasoning=CANARY, answer=CANARY))
    outcome = Outcome(id="outcome_1", unit=Unit(arm="mend", prompt="p"), state=OutcomeState.CORRECTED, final=verdict)
    row = SimpleNamespace(arm="mend", row=7, example="example_1", sample=0)
    story = SimpleNamespace(
        matched="outcome_1", row=3, prompt=verdict.trajectory.prompt, samples=(verdict,), rewrites=(), forks=(),
        outcomes=(outcome,), published=(row,), num_open=1,
    )  # fmt: skip
    async with ingestion(tmp_path) as served, AsyncClient(served.address) as client:
        await sealed(served)
        served.work.stories["outcome_1"] = story
        told = await client.run("demo-1").trace("outcome_1")
        assert CANARY not in str(told)
        assert f"<text {told['prompt']['text']['digest']} {len(CANARY)} chars>" == Text(CANARY).label()
        assert told["published"][0]["example"] == "example_1"
        assert told["outcomes"][0]["state"] == "OUTCOME_STATE_CORRECTED"
        with pytest.raises(CallError, match="no id of this run"):
            await client.run("demo-1").trace("nothing")


async def test_dead_letters_are_listed_in_pages_and_redriven(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, AsyncClient(served.address) as client:
        await sealed(served)
        served.work.letters_kept = [letter(n, reason="bug" if n % 2 else "size") for n in range(1200)]
        run = client.run("demo-1")
        assert len([kept async for kept in run.dead_letters()]) == 1200
        (first, *_) = [kept async for kept in run.dead_letters(reason="bug")]
        assert first.name == "runs/demo-1/deadLetters/letter-00001"
        assert first.created_s == 1_700_000_001.0
        assert await run.redrive_dead_letters(dry_run=True, rate_per_s=5.0) == (1200, 0)
        assert served.work.asked[-1]["rate_per_s"] == 5.0
        assert await run.redrive_dead_letters() == (1200, 1200)


async def test_units_are_redriven_by_arm_and_reason(tmp_path: Path) -> None:
    async with ingestion(tmp_path) as served, AsyncClient(served.address) as client:
        await sealed(served)
        run = client.run("demo-1")
        with pytest.raises(CallError, match="sealed"):
            await run.redrive()
        await served.tables.runs.set_state("demo-1", RunState.RUNNING)
        redriven = await run.redrive(arm="mend", reason="lost")
        assert (redriven.num_units, redriven.prompts, redriven.reasons) == (3, {"mend": 2}, {"dead/lost": 2})
        assert served.units.asked == [{"run": "demo-1", "arm": "mend", "reason": "lost", "dry_run": False}]
