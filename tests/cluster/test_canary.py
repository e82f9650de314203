"""What prompts and models write is found where it is meant to be, and in nothing that people or dashboards read.

A run over real servers whose prompts, trajectories, teacher's and judge's replies hold marked words, with everything
going wrong that quotes what it chokes on: a provider's errors, a message that cannot be read, a damaged upload, refused
calls. Afterwards every byte that came out of the cluster is searched.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from tests.builders import trajectory, verdict
from tests.cluster.marked_text import blobs_of, forms, found, new_mark, pages_of, records_of, rows_of_database
from tests.cluster.spine import SERVICES, Spine
from tests.otlp_collector import Collector, collecting

from tracemend.adapters.kafka_clients import open_producer, settings_of
from tracemend.api.corrector.v1 import corrector_service_pb2 as corrector
from tracemend.api.corrector.v1.corrector_service_pb2_grpc import CorrectorServiceStub
from tracemend.api.ingestion.v1 import ingestion_service_pb2 as ingestion
from tracemend.api.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from tracemend.api.judge.v1 import judge_service_pb2 as judge
from tracemend.api.judge.v1.judge_service_pb2_grpc import JudgeServiceStub
from tracemend.client import PromptRow
from tracemend.embedded.plan import resolve
from tracemend.embedded.runfile import parse_run_file
from tracemend.records import Category, OutcomeState, Value
from tracemend.redaction import Text
from tracemend.runtime.messages import message_of
from tracemend.topics import VERDICTS

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1800)]

RUN = """\
name: marked
models:
  teacher: {{engine: "openai:teacher@{url}", options: {{max_attempts: 2, max_wait_s: 0.1}}}}
  judge: {{engine: "openai:judge@{url}", options: {{max_attempts: 2, max_wait_s: 0.1}}}}
prompts: [{{source: numbered, count: 1}}]
ingestion: {{max_chars: 2000, filters: {{near_duplicates: false}}}}
target:
  model: marked
  engine: "openai:target@{url}"
  samples: 2
  engine_options: {{max_attempts: 2, max_wait_s: 0.1}}
judge:
  harm: {{name: last_word}}
  refusal: {{name: rubric, model: judge}}
  correctness: {{name: last_word}}
arms:
  rewrite:
    correct: {{strategy: rewrite, teacher: teacher}}
"""
MARKS = ("prompt", "trace", "teacher", "judge", "chunk", "call", "broken")


@dataclass
class Models:
    """An endpoint that stands for all models: it writes marks, and its errors quote what they were asked."""

    marks: dict[str, str]
    url: str = ""
    num_errors: int = 0
    asked: set[str] = field(default_factory=set)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        model, asked = body["model"], body["messages"][-1]["content"]
        self.asked.add(model)
        if "REFUSED" in asked:
            self.num_errors += 1
            return web.json_response({"error": {"message": f"cannot: {asked}"}}, status=400)
        written = {
            "target": f"<think>\n{asked} {self.marks['trace']} unsafe\n</think>\n\n{self.marks['trace']} unsafe.",
            "teacher": f"<reasoning>\n{self.marks['teacher']} is safe.\n</reasoning>\n"
            f"<answer>\n{self.marks['teacher']} is safe.\n</answer>",
            "judge": f"I cannot say what {self.marks['judge']} means",
        }[model]
        message = {"role": "assistant", "content": written}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 5}})


@asynccontextmanager
async def models(marks: dict[str, str]) -> AsyncIterator[Models]:
    served = Models(marks)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", served.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield served
    finally:
        await runner.cleanup()


def rows(mark: str) -> list[PromptRow]:
    """Prompts to be mended, prompts for the judge that cannot decide, and some that models and filters refuse."""

    def row(text: str, category: Category = Category.HARMFUL) -> PromptRow:
        return PromptRow(text=Text(f"{mark} {text}"), category=category, source="marked", where="marked:1")

    return [
        *(row(f"number {number}") for number in range(6)),
        *(row(f"harmless {number}", Category.BENIGN) for number in range(2)),
        row("to be REFUSED by the provider"),
        row("number 1"),
        row("too long " * 400),
        row("\0 with a control character"),
    ]


async def told_by(call: Any) -> bytes:
    """Everything that a failing call tells its client."""
    try:
        answer = [one async for one in call] if hasattr(call, "__aiter__") else await call
    except grpc.aio.AioRpcError as error:
        metadata = [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
        values = [value if isinstance(value, bytes) else value.encode() for _, value in metadata]
        return b"\n".join([(error.details() or "").encode(), (error.debug_error_string() or "").encode(), *values])
    raise AssertionError(f"the call succeeded: {type(answer).__name__}")


async def refused_calls(spine: Spine, run: str, marks: dict[str, str]) -> list[bytes]:
    """What calls that must fail are told, with marked words in their requests."""
    record = await spine.tables.runs.get(run)
    assert record is not None
    marked = Text(marks["call"])
    worded = trajectory(reasoning=marked, answer=marked)
    about = message_of(verdict(Value.UNSAFE, worded))
    chunk = ingestion.PromptRows(rows=[ingestion.PromptRow(text=marks["chunk"])]).SerializeToString()
    header = ingestion.UploadPromptsRequest(header=ingestion.UploadHeader(parent=f"runs/{run}", request_id="bad"))

    async def damaged(content: bytes, crc: int) -> AsyncIterator[Any]:
        yield header
        yield ingestion.UploadPromptsRequest(chunk=ingestion.UploadChunk(sequence=0, rows=content, crc32=crc))

    def channel(service: str) -> Any:
        return grpc.aio.insecure_channel(f"127.0.0.1:{spine.ports[service]}")

    async with channel("ingestion") as front, channel("judge") as judges, channel("corrector") as correctors:
        uploads, plan = IngestionServiceStub(front), marks["call"].encode()
        judging, correcting = JudgeServiceStub(judges), CorrectorServiceStub(correctors)
        asked = [
            uploads.UploadPrompts(damaged(chunk, 1), timeout=20),
            uploads.UploadPrompts(damaged(marks["chunk"].encode() * 3, 0), timeout=20),
            uploads.CreateRun(ingestion.CreateRunRequest(plan=plan, request_id="r-1"), timeout=20),
            uploads.CreateRun(
                ingestion.CreateRunRequest(plan=json.dumps({"name": {"x": marks["call"]}}).encode(), request_id="r-2"),
                timeout=20,
            ),
            judging.JudgeTrajectories(
                judge.JudgeTrajectoriesRequest(plan="0" * 64, trajectories=[message_of(worded)]), timeout=20
            ),
            correcting.CorrectTrajectory(
                corrector.CorrectTrajectoryRequest(plan=record.plan, arm="nobody", verdict=about), timeout=20
            ),
        ]
        return [await told_by(each) for each in asked]


async def send_broken(spine: Spine, mark: str) -> None:
    """A message that nobody can read, on a topic that the corrector does."""
    settings = settings_of(spine.bus)
    producer = await asyncio.to_thread(open_producer, settings)
    producer.send(settings.named(VERDICTS.name), key=b"k", value=b"\xff" + mark.encode()).get(20)
    producer.close()


async def until_buried(spine: Spine, number: int) -> None:
    async with asyncio.timeout(60):
        while sum(each.is_dead for each in await asyncio.to_thread(records_of, spine.bus)) < number:  # noqa: ASYNC110
            await asyncio.sleep(0.5)


async def lived_through(spine: Spine, served: Models, marks: dict[str, str]) -> list[bytes]:
    """Run everything; what refused calls were told."""
    plan = resolve(parse_run_file(RUN.format(url=served.url), name="marked.yaml"))
    async with spine.client() as client:
        run = await client.begin(plan.content)
        errors = await refused_calls(spine, run.id, marks)
        await run.upload(rows(marks["prompt"]))
        await run.seal()
        await send_broken(spine, marks["broken"])
        await spine.wait_done(run.id)
        await until_buried(spine, 2)
        await run.redrive(dry_run=True)  # which is audited
    counts = await spine.workspace.ledger.outcome_counts(run.id)
    assert {OutcomeState.CORRECTED, "dead"} <= {part for _, *ending in counts for part in ending}, counts
    return errors


def test_marked_text_is_in_the_store_and_on_the_bus_and_nowhere_else(tmp_path: Path) -> None:
    async def check() -> None:
        marks = {name: new_mark(name) for name in MARKS}
        async with collecting() as collector, models(marks) as served:
            roles = "[submitter, operator, service]"
            settings = {
                **collector.environment,
                "TRACEMEND_TRACES_SHARE": "1",
                "TRACEMEND_RPC_ANONYMOUS_ROLES": roles,
            }
            async with Spine.on_servers(tmp_path, target="marked", **settings) as spine:
                spine.start_all()
                errors = await lived_through(spine, served, marks)
                assert served.asked == {"target", "teacher", "judge"}
                assert served.num_errors
                scraped = dict(await asyncio.to_thread(lambda: list(pages_of(spine))))
                await asyncio.to_thread(spine.stop_all)
                await asyncio.to_thread(check_all, spine, collector, scraped, errors, marks)

    asyncio.run(check())


def check_all(
    spine: Spine, collector: Collector, scraped: dict[str, bytes], errors: list[bytes], marks: dict[str, str]
) -> None:
    """Marks are where they are meant to be, so that they can be found, and nowhere else."""
    travelled, blobs = records_of(spine.bus), list(blobs_of(spine.store))
    rows = list(rows_of_database(spine.ledger))
    assert set().union(*(found(each.body, marks) for each in travelled)) >= {"prompt", "trace", "teacher", "broken"}
    assert set().union(*(found(content, marks) for _, content in blobs)) >= {"prompt"}
    dead = [each for each in travelled if each.is_dead]
    assert set().union(*(found(each.body, marks) for each in dead)) >= {"prompt", "broken"}
    assert len(errors) == 6
    assert {service.partition("/")[0] for service in scraped} == set(SERVICES)
    assert collector.num_spans > 100
    assert collector.services == set(SERVICES)
    assert {"units", "outcomes", "work", "audit", "requests"} <= {table for table, _ in rows}

    places = {f"log of {name}": spine.log(name).encode() for name in SERVICES}
    assert all(places.values())
    places |= {f"page {name}": content for name, content in scraped.items()}
    places |= {f"export {number}": content for number, content in enumerate(collector.exports)}
    places |= {f"error {number}": content for number, content in enumerate(errors)}
    places |= {f"name {name}": name.encode() for name, _ in blobs}
    leaks = {place: names for place, content in places.items() if (names := found(content, marks))}
    leaks |= {f"table {table}": names for table, row in rows if (names := found(row, marks))}
    leaks |= {
        f"headers on {each.topic}": names for each in travelled if (names := found(each.headers + each.key, marks))
    }
    assert leaks == {}


def test_a_mark_is_found_in_each_of_its_forms() -> None:
    import base64

    mark = new_mark("x")
    raw = f"before {mark} after".encode()
    for disguised in (raw, raw.hex().upper().encode(), *(base64.b64encode(b"-" * n + raw) for n in range(3))):
        assert found(disguised, {"x": mark}) == {"x"}
    assert len(set(forms(mark))) == 5
    assert found(b"before and after", {"x": mark}) == set()
