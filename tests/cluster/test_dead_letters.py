"""Dead letters by command line: what a stage gave up is found with its reason and its original bytes, and is worked
once its cause is gone, in the trace that it had."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from tests.cluster.marked_text import Travelled, records_of
from tests.cluster.spine import Spine
from tests.otlp_collector import Collector, collecting

from tracemend.adapters.s3_bucket import Bucket
from tracemend.adapters.s3_settings import settings_of
from tracemend.client import PromptRow
from tracemend.embedded.plan import resolve
from tracemend.embedded.runfile import parse_run_file
from tracemend.kit.run_states import RunState
from tracemend.records import Category
from tracemend.redaction import Text
from tracemend.topics import DEAD_LETTERS

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

RUN = """\
name: poisoned
prompts: [{{source: numbered, count: 1}}]
ingestion: {{max_chars: 400000, filters: {{near_duplicates: false}}}}
target: {{model: ill, engine: "openai:ill@{url}", samples: 1, engine_options: {{max_attempts: 1}}}}
judge: {{harm: {{name: last_word}}, refusal: {{name: last_word}}, correctness: {{name: last_word}}}}
arms:
  filter: {{correct: {{strategy: filter}}}}
"""
NUM_POISONED, NUM_WELL = 4, 6
LARGE = "large " * 60_000
"""More than a message takes: its body lies in the store."""


@dataclass
class Endpoint:
    """Refuses poison for as long as it is ill."""

    url: str = ""
    is_ill: bool = True

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = (await request.json())["messages"][-1]["content"]
        if self.is_ill and "poison" in asked:
            return web.json_response({"error": {"message": "cannot"}}, status=400)
        message = {"role": "assistant", "content": "<think>\nThat is safe.\n</think>\n\nIt is safe."}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 5}})


@asynccontextmanager
async def endpoint() -> AsyncIterator[Endpoint]:
    served = Endpoint()
    app = web.Application(client_max_size=2**22)
    app.router.add_post("/v1/chat/completions", served.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield served
    finally:
        await runner.cleanup()


def rows() -> list[PromptRow]:
    texts = [*(f"poison {n}" for n in range(NUM_POISONED)), *(f"well {n}" for n in range(NUM_WELL)), LARGE]
    return [PromptRow(text=Text(text), category=Category.HARMFUL, where=f"row:{n}") for n, text in enumerate(texts)]


async def told(spine: Spine, *arguments: str) -> Any:
    """What a command prints as JSON."""
    environment = {"TRACEMEND_TO": f"127.0.0.1:{spine.ports['ingestion']}", "TRACEMEND_PLAINTEXT": "1"}
    command = [sys.executable, "-m", "tracemend.cli", *arguments, "--json"]
    said = await asyncio.to_thread(subprocess.check_output, command, env={**os.environ, **environment})
    return json.loads(said)


def header(record: Travelled, name: str) -> str:
    found = re.search(rb"^" + name.encode() + rb"=(.*)$", record.headers, re.M)
    return found[1].decode() if found else ""


def trace_id(record: Travelled) -> str:
    return header(record, "traceparent").split("-")[1]


async def records(spine: Spine) -> list[Travelled]:
    return await asyncio.to_thread(records_of, spine.bus)


async def asked_for_in_the_store(spine: Spine) -> Travelled:
    """The request whose body lies in the store, once all were published."""
    async with asyncio.timeout(120):
        while True:
            requests = [each for each in await records(spine) if header(each, "ce_type").endswith("GenerationRequest")]
            if len(requests) >= NUM_POISONED + NUM_WELL + 1:
                (large,) = [each for each in requests if header(each, "tm_claim")]
                return large
            await asyncio.sleep(0.5)


async def until_buried(spine: Spine, run: str, number: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(120):
        while len(found := await told(spine, "letters", run)) < number:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.5)
    assert len(found) == number
    return list(found)


@asynccontextmanager
async def damaged(spine: Spine, digest: str) -> AsyncIterator[None]:
    """The blob is not what its name says inside, and good again afterwards."""
    content = await spine.workspace.store.get(digest)
    bucket = Bucket(settings_of(spine.store))
    try:
        (found,) = [each async for each in bucket.objects("") if digest in each.name]
        await bucket.put(found.name, content[:-1] + b"\0")
        yield
    finally:
        bucket.close()
    await spine.workspace.store.put(content)


def spans_of(collector: Collector, service: str) -> set[str]:
    """The trace of every span of `service`."""
    found = set()
    for export in collector.exports:
        for resource in trace_service_pb2.ExportTraceServiceRequest.FromString(export).resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            if names.get("service.name") == service:
                found |= {span.trace_id.hex() for scope in resource.scope_spans for span in scope.spans}
    return found


async def check_letters(spine: Spine, run: str) -> None:
    """They are told with stage and reason, can be chosen, and are the bytes that were published."""
    letters = await until_buried(spine, run, NUM_POISONED + 1)
    reasons = {letter["reason"] for letter in letters}
    assert {letter["stage"] for letter in letters} == {"generator-ill"}, letters
    (refused,) = reasons - {"claim_corrupt"}
    assert len(await told(spine, "letters", run, "--reason", refused)) == NUM_POISONED
    assert await told(spine, "letters", run, "--stage", "judge") == []
    travelled = await records(spine)
    dead = [each for each in travelled if each.topic.endswith(DEAD_LETTERS)]
    published = {header(each, "ce_id"): each for each in travelled if not each.topic.endswith(DEAD_LETTERS)}
    assert {header(each, "ce_id") for each in dead} == {letter["record"] for letter in letters}
    for each in dead:
        before = published[header(each, "ce_id")]
        assert (each.key, each.body, trace_id(each)) == (before.key, before.body, trace_id(before))


async def check_redrive_of_letters(spine: Spine, run: str, collector: Collector) -> None:
    """Counted first; then sent again no faster than is asked for, for the stage that gave them up, in their traces."""
    dead = [each for each in await records(spine) if each.topic.endswith(DEAD_LETTERS)]
    (unread,) = [trace_id(each) for each in dead if header(each, "tm_dead_reason") == "claim_corrupt"]
    matched = NUM_POISONED + 1
    assert await told(spine, "letters", run, "--dry-run") == {"num_matched": matched, "num_published": 0}
    assert unread not in spans_of(collector, "generator")
    chosen = await told(spine, "letters", run, "--redrive", "--reason", "claim_corrupt", "--most", "5")
    assert chosen == {"num_matched": 1, "num_published": 1}
    began_s = time.monotonic()
    sent = await told(spine, "letters", run, "--redrive", "--rate", "1")
    assert sent == {"num_matched": NUM_POISONED, "num_published": NUM_POISONED}
    assert time.monotonic() - began_s >= NUM_POISONED - 1
    again = [each for each in await records(spine) if header(each, "tm_redrive") and not header(each, "tm_redriven")]
    assert sorted((trace_id(each), each.body) for each in again) == sorted((trace_id(e), e.body) for e in dead)
    assert await told(spine, "letters", run) == []
    async with asyncio.timeout(30):
        for service in ("generator", "judge", "corrector"):
            while unread not in spans_of(collector, service):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.5)


async def states_of(spine: Spine, run: str) -> dict[str, int]:
    return {state: n for (_, state, _), n in (await spine.workspace.ledger.outcome_counts(run)).items()}


def test_what_was_given_up_is_told_and_redriven_once_its_cause_is_gone(tmp_path: Path) -> None:
    async def check() -> None:
        async with collecting() as collector, endpoint() as served:
            settings: Mapping[str, str] = {**collector.environment, "TRACEMEND_TRACES_SHARE": "1"}
            async with Spine.on_servers(tmp_path, target="ill", **settings) as spine, spine.client() as client:
                for service in ("ingestion", "judge", "corrector", "trainer", "evaluator"):
                    spine.start(service)
                plan = resolve(parse_run_file(RUN.format(url=served.url), name="poisoned.yaml"))
                run = (await client.submit(plan.content, rows())).id
                large = await asked_for_in_the_store(spine)
                async with damaged(spine, header(large, "tm_claim")):
                    spine.start("generator")
                    await check_letters(spine, run)
                assert await states_of(spine, run) == {"kept": NUM_WELL, "not_selected": NUM_POISONED}
                assert (await client.run(run).status()).state is RunState.RUNNING

                served.is_ill = False
                await check_redrive_of_letters(spine, run, collector)
                await spine.wait_done(run)
                assert await states_of(spine, run) == {"kept": NUM_WELL + 1, "not_selected": NUM_POISONED}
                # A unit whose sample died has its outcome: it is opened anew.
                would = await told(spine, "redrive", run, "--reason", "dead", "--dry-run")
                assert would["num_units"] == NUM_POISONED
                assert (await client.run(run).status()).state is RunState.DONE
                assert await told(spine, "redrive", run, "--reason", "dead") == would
                await spine.wait_done(run)
                assert await states_of(spine, run) == {"kept": NUM_WELL + 1 + NUM_POISONED}

    asyncio.run(check())
