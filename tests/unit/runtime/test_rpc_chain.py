"""The chain over a real server: every arity, in order, and what a call is told when it cannot be served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import structlog
from grpc import aio
from tests.fuzzing import fuzz
from tests.rpc_client import call, fault, plain_channel, start
from tests.rpc_service import ACCESS, METHODS, FakeAudit, FakeRequests, Thing, ThingServicer, registration

from tracemend.kit.errors import Reject, Retry, SetupError, TracemendError
from tracemend.kit.logs import log_to_stderr
from tracemend.kit.server_ports import Conflict
from tracemend.kit.telemetry import CATALOGUE, NO_TELEMETRY, RPC_IN_FLIGHT, RPC_SERVER_SECONDS
from tracemend.redaction import Text
from tracemend.runtime.rpc.call import Call
from tracemend.runtime.rpc.chain import Interceptor, Proceed, Running, chained, rpc_handler, serving
from tracemend.runtime.rpc.faults import Code, Fault
from tracemend.runtime.rpc.interceptors import standard
from tracemend.runtime.rpc.pace import Pace
from tracemend.runtime.rpc.permissions import Access, Role
from tracemend.runtime.rpc.server import RpcServer
from tracemend.runtime.rpc.settings import RpcSettings

ALL = sorted(METHODS)
OPEN = RpcSettings(listen="127.0.0.1:0", anonymous_roles=frozenset({Role.SUBMITTER}))


@dataclass
class Served:
    server: RpcServer
    servicer: ThingServicer
    channel: Any
    requests: FakeRequests


@pytest.fixture(autouse=True)
def _logs_as_in_a_program() -> Iterator[None]:
    log_to_stderr()
    yield
    structlog.reset_defaults()


@asynccontextmanager
async def serve(settings: RpcSettings = OPEN, **options: Any) -> AsyncIterator[Served]:
    servicer, requests = ThingServicer(), FakeRequests()
    given = {"access": ACCESS, "requests": requests} | options
    server = RpcServer(settings, [registration(servicer)], **given)
    await server.start()
    channel = plain_channel(server.port)
    try:
        yield Served(server, servicer, channel, requests)
    finally:
        await channel.close()
        await server.drain(0)


async def first(channel: Any, name: str, **options: Any) -> Any:
    """The first answer of any method; raises its fault."""
    method = METHODS[name]
    if name == "WatchThing":
        started = start(channel, method, [Thing(name="a").SerializeToString()], within_s=10, **options)
        response = await started.read()
        started.cancel()
        return response
    answer = await call(channel, method, Thing(name="a"), **options)
    return answer[0] if isinstance(answer, list) else answer


@pytest.mark.parametrize("name", ALL)
async def test_every_arity_is_served(name: str) -> None:
    async with serve() as served:
        answer = await first(served.channel, name)
        assert answer.name == "a" or (name == "CountThings" and answer.number == 1)


@pytest.mark.parametrize("name", ALL)
async def test_every_arity_passes_every_interceptor_in_the_order(name: str) -> None:
    entered: list[str] = []

    def spy(inner: Interceptor) -> Interceptor:
        async def enter(call: Call, proceed: Proceed) -> None:
            entered.append(type(inner).__name__)
            await inner(call, proceed)

        return enter

    steps = standard(OPEN, access=ACCESS, validators={}, requests=FakeRequests(), audit=None, telemetry=NO_TELEMETRY)
    method = METHODS[name]
    work = getattr(ThingServicer(), name)
    handler = rpc_handler(method, chained([spy(step) for step in steps], serving(method, work)), Running())
    server = aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(method.service, {name: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = plain_channel(port)
    await first(channel, name)
    await channel.close()
    await server.stop(0)
    assert entered == [
        "Naming",
        "Tracing",
        "Metrics",
        "Authentication",
        "Authorisation",
        "Deadline",
        "Validation",
        "Auditing",
        "Idempotency",
    ]


@pytest.mark.parametrize("name", ALL)
async def test_every_arity_refuses_strangers_and_the_unlisted(name: str) -> None:
    async with serve(RpcSettings(listen="127.0.0.1:0")) as served:
        assert (await fault(served.channel, METHODS[name], Thing(name="a"))).reason == "NO_CREDENTIALS"
    async with serve(access=Access(roles={})) as served:
        refused = await fault(served.channel, METHODS[name], Thing(name="a"))
        assert (refused.code, refused.reason) == (Code.PERMISSION_DENIED, "ROLE_MISSING")
        assert served.servicer.told == []


@pytest.mark.parametrize("name", ALL)
async def test_every_arity_names_what_is_wrong_with_a_field(name: str) -> None:
    async with serve() as served:
        refused = await fault(served.channel, METHODS[name], Thing(page_size=-1, request_id="no good"))
        assert refused.code is Code.INVALID_ARGUMENT
        assert set(refused.violations) == {"name", "page_size", "request_id"}


@pytest.mark.parametrize("name", ALL)
async def test_bytes_that_are_no_message_are_the_callers_mistake(name: str) -> None:
    async with serve() as served:
        started = start(served.channel, METHODS[name], [b"\xff\xff\xff"], within_s=5)
        with pytest.raises(Exception, match="INVALID_ARGUMENT"):
            await (started.read() if METHODS[name].streams_responses else started)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (Fault(Code.OUT_OF_RANGE, "TOO_FAR", "go back"), Code.OUT_OF_RANGE, "TOO_FAR"),
        (Retry("engine busy", after_s=7.5), Code.UNAVAILABLE, "ENGINE_BUSY"),
        (Reject("no_token_ids", "the engine takes none"), Code.INVALID_ARGUMENT, "NO_TOKEN_IDS"),
        (SetupError("set the judge's address"), Code.FAILED_PRECONDITION, "SETUP"),
        (Conflict("somebody was first"), Code.ABORTED, "CONFLICT"),
        (TimeoutError(), Code.UNAVAILABLE, "TIMEOUT"),
        (ValueError("canary words"), Code.INVALID_ARGUMENT, "INVALID_VALUE"),
        (RuntimeError("canary words"), Code.INTERNAL, "BUG"),
        (SetupError(f"{Text('canary words')}"), Code.FAILED_PRECONDITION, "SETUP"),
    ],
)
@pytest.mark.parametrize("name", ALL)
async def test_errors_become_rich_statuses_without_words(
    name: str, error: Exception, code: Code, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serve() as served:
        served.servicer.error = error
        ended = await fault(served.channel, METHODS[name], Thing(name="a"))
    assert (ended.code, ended.reason) == (code, reason)
    assert ended.retry_after_s == (7.5 if isinstance(error, Retry) else 1.0 if code is Code.UNAVAILABLE else None)
    logged = capfd.readouterr()
    assert "canary" not in f"{ended} {ended.metadata} {logged.out} {logged.err}"
    assert ("call_failed" in logged.err) == (not isinstance(error, TracemendError))


async def test_details_that_are_too_long_for_trailers_are_cut() -> None:
    async with serve() as served:
        served.servicer.error = Fault(
            Code.INVALID_ARGUMENT, "MANY", "x" * 9000, violations={f"field{n}": "y" * 900 for n in range(500)}
        )
        ended = await fault(served.channel, METHODS["GetThing"], Thing(name="a"))
    assert ended.reason == "MANY"
    assert len(ended.violations) == 16


async def test_a_call_with_effects_needs_a_deadline_and_a_reading_one_gets_one() -> None:
    async with serve() as served:
        refused = await fault(served.channel, METHODS["MakeThing"], Thing(name="a"), within_s=None)
        assert refused.reason == "DEADLINE_REQUIRED"
        await call(served.channel, METHODS["GetThing"], Thing(name="a"), within_s=None)
        await call(served.channel, METHODS["MakeThing"], Thing(name="a"), within_s=1e6)
        await call(served.channel, METHODS["MakeThing"], Thing(name="a"), within_s=20)
    left = [remaining for *_, remaining in served.servicer.told]
    assert [round(seconds or -1, -1) for seconds in left] == [60, 3600, 20]


async def test_work_ends_when_its_time_is_up() -> None:
    async with serve(OPEN.model_copy(update={"max_deadline_s": 0.1})) as served:
        served.servicer.gate = asyncio.Event()
        ended = await fault(served.channel, METHODS["MakeThing"], Thing(name="a"), within_s=30)
    assert (ended.code, ended.reason) == (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_the_request_id_comes_back_and_one_that_could_forge_a_log_line_is_replaced() -> None:
    async with serve() as served:
        for given in ("mine-1", "two words"):
            started = start(
                served.channel,
                METHODS["GetThing"],
                [Thing(name="a").SerializeToString()],
                within_s=5,
                x_request_id=given,
            )
            await started
            returned = dict(await started.trailing_metadata())["x-request-id"]
            assert (returned == given) == (given == "mine-1")
            assert served.servicer.told[-1][2] == returned


async def test_the_trace_goes_on_to_what_the_call_causes() -> None:
    context = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    async with serve() as served:
        await call(served.channel, METHODS["GetThing"], Thing(name="a"), **context)
    assert served.servicer.traces == [context]


async def test_a_repeated_request_has_one_effect_and_one_answer() -> None:
    wish = Thing(name="a", request_id="f47ac10b-58cc")
    async with serve() as served:
        answers = await asyncio.gather(*(call(served.channel, METHODS["MakeThing"], wish) for _ in range(5)))
        assert [answer.number for answer in answers] == [1] * 5
        reused = await fault(served.channel, METHODS["MakeThing"], Thing(name="b", request_id="f47ac10b-58cc"))
        assert (reused.code, reused.reason) == (Code.FAILED_PRECONDITION, "REQUEST_ID_REUSED")
        assert (await call(served.channel, METHODS["MakeThing"], Thing(name="a"))).number == 2
        assert (await call(served.channel, METHODS["MakeThing"], Thing(name="a", request_id="other"))).number == 3


async def test_a_refused_or_only_validated_request_may_be_made_again() -> None:
    async with serve() as served:
        served.servicer.error = Retry("busy")
        await fault(served.channel, METHODS["MakeThing"], Thing(name="a", request_id="one"))
        served.servicer.error = None
        tried = Thing(name="a", request_id="one", validate_only=True)
        await call(served.channel, METHODS["MakeThing"], tried)
        await call(served.channel, METHODS["MakeThing"], Thing(name="a", request_id="one"))
        assert len(served.requests.kept) == 1


def test_a_server_without_a_place_for_requests_is_refused_where_they_are_promised() -> None:
    with pytest.raises(SetupError, match="MakeThing"):
        RpcServer(OPEN, [registration(ThingServicer())], access=ACCESS)


async def test_a_message_over_the_limit_is_told_what_to_do() -> None:
    settings = OPEN.model_copy(update={"max_message_bytes": 2**16})
    async with serve(settings) as served:
        for num_bytes in (2**16 + 1, 2**18):
            ended = await fault(served.channel, METHODS["GetThing"], Thing(name="a", content=b"x" * num_bytes))
            assert ended.code is Code.RESOURCE_EXHAUSTED
        ended = await fault(served.channel, METHODS["CountThings"], Thing(name="a", content=b"x" * 2**16))
        assert ended.reason == "MESSAGE_TOO_LARGE"
        assert "split it" in ended.message


async def test_reading_text_asks_for_a_purpose_and_is_written_down_first() -> None:
    audit, read = FakeAudit(), METHODS["GetThing"]
    access = Access(roles=ACCESS.roles, reads_text=frozenset({read.full_name}))
    async with serve(audit=audit, access=access) as served:
        refused = await fault(served.channel, read, Thing(name="a"))
        assert (refused.reason, audit.appended, served.servicer.told) == ("PURPOSE_REQUIRED", [], [])
        await call(served.channel, read, Thing(name="a"), x_tracemend_purpose="Pr%C3%BCfung%20von%20Fall%207")
        await call(served.channel, read, Thing(name="b"), x_tracemend_purpose="two%0Alines")
        assert [(entry.principal, entry.resource, entry.purpose) for entry in audit.appended] == [
            ("anonymous", "a", "Prüfung von Fall 7"),
            ("anonymous", "b", "two?lines"),
        ]
        audit.is_down = True
        ended = await fault(served.channel, read, Thing(name="a"), x_tracemend_purpose="appeal of case 8")
        assert (ended.code, len(served.servicer.told)) == (Code.UNAVAILABLE, 2)


async def test_people_read_text_at_the_pace_of_people() -> None:
    read = METHODS["GetThing"]
    access = Access(roles=ACCESS.roles, reads_text=frozenset({read.full_name}))
    settings = OPEN.model_copy(update={"text_reads_per_minute": 3})
    async with serve(settings, audit=FakeAudit(), access=access) as served:
        for _ in range(3):
            await call(served.channel, read, Thing(name="a"), x_tracemend_purpose="appeal of case 8")
        slow = await fault(served.channel, read, Thing(name="a"), x_tracemend_purpose="appeal of case 8")
        assert (slow.code, slow.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_READS")
        assert 0 < (slow.retry_after_s or 0) <= 20


def test_a_pace_comes_back_with_time_and_is_everybodys_own() -> None:
    now = [0.0]
    pace = Pace(2, clock=lambda: now[0])
    assert [pace.wait_s("ada") for _ in range(3)] == [0, 0, 30]
    assert pace.wait_s("bob") == 0
    now[0] = 29.0
    assert pace.wait_s("ada") == pytest.approx(1)
    now[0] = 31.0
    assert pace.wait_s("ada") == 0
    assert pace.wait_s("ada") > 20


@pytest.mark.parametrize("name", ALL)
async def test_every_end_of_every_arity_is_counted_with_its_status(name: str) -> None:
    telemetry = RecordingTelemetry()
    async with serve(telemetry=telemetry) as served:
        await first(served.channel, name)
        served.servicer.error = Retry("busy")
        await fault(served.channel, METHODS[name], Thing(name="a"))
        served.servicer.error = None
        await fault(served.channel, METHODS[name], Thing())
    ends = [(labels["method"], labels["code"]) for metric, labels in telemetry.observed if metric == RPC_SERVER_SECONDS]
    full_name = METHODS[name].full_name
    ok = "CANCELLED" if name == "WatchThing" else "OK"
    assert ends == [(full_name, ok), (full_name, "UNAVAILABLE"), (full_name, "INVALID_ARGUMENT")]
    assert telemetry.gauges[RPC_IN_FLIGHT] == 0
    assert telemetry.spans == [full_name] * 3


class RecordingTelemetry:
    """Keeps what it is told, with bounded labels only."""

    def __init__(self) -> None:
        self.observed: list[tuple[str, dict[str, str]]] = []
        self.gauges: dict[str, float] = {}
        self.spans: list[str] = []

    def item(self, stage: str, outcome: str, reason: str = "", seconds: float = 0.0) -> None:
        raise AssertionError("calls are no items")

    def gauge(self, name: str, value: float, **labels: str) -> None:
        assert set(labels) <= set(CATALOGUE[name].labels)
        self.gauges[name] = value

    def count(self, name: str, number: float = 1, **labels: str) -> None:
        assert set(labels) <= set(CATALOGUE[name].labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        assert set(labels) == set(CATALOGUE[name].labels)
        self.observed.append((name, labels))

    @contextmanager
    def span(self, name: str, **given: Any) -> Iterator[Mapping[str, str]]:
        self.spans.append(name)
        yield given.get("trace", {})


async def test_bytes_thrown_at_every_method_find_no_bug() -> None:
    async with serve() as served:
        methods = [method for method in METHODS.values() if method.name != "WatchThing"]
        counts = await fuzz(served.channel, methods, number=2000, seed=7)
        assert sum(counts.values()) == 2000
        assert counts["GetThing: OK"]
        assert counts["GetThing: INVALID_ARGUMENT"]
        assert (await call(served.channel, METHODS["GetThing"], Thing(name="a"))).name == "a"


async def test_the_fuzzer_finds_a_bug_where_there_is_one() -> None:
    async with serve() as served:
        served.servicer.error = RuntimeError("a bug")
        with pytest.raises(AssertionError, match=r"of seed 7 to .* ended in INTERNAL"):
            await fuzz(served.channel, [METHODS["GetThing"]], number=200, seed=7)
