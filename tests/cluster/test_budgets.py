"""Budgets and costs across six processes: limits stop a run where it can go on, and what the account says is what the
engines say that they did."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.cluster.marked_text import pages_of
from tests.cluster.spine import Spine

from tracemend.embedded.runfile import RunFile, parse_run_file
from tracemend.kit.run_states import RunState
from tracemend.kit.server_ports import RunRecord

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

RUN = """\
name: counted
models:
  teacher: {{engine: "openai:teacher@{url}"}}
  judge: {{engine: "openai:judge@{url}"}}
prompts: [{{source: numbered, count: 40}}]
ingestion: {{filters: {{near_duplicates: false}}}}
target: {{model: counted, engine: "openai:{target}@{url}", samples: 2}}
judge:
  harm: {{name: last_word}}
  refusal: {{name: rubric, model: judge}}
  correctness: {{name: last_word}}
arms:
  rewrite: {{correct: {{strategy: rewrite, teacher: teacher}}}}
limits: {limits}
"""
PRICE = {"per_million_prompt": 1000.0, "per_million_new": 3000.0}
CONCURRENCY = 4


@dataclass
class Engine:
    """An endpoint that stands for all models, and counts what it does."""

    url: str = ""
    num_waiting: int = 0
    _hold_at: float = math.inf
    _answers: asyncio.Event = field(default_factory=asyncio.Event)
    prompt_tokens: Counter[str] = field(default_factory=Counter)
    new_tokens: Counter[str] = field(default_factory=Counter)

    @property
    def num_tokens(self) -> int:
        return self.prompt_tokens.total() + self.new_tokens.total()

    @property
    def money(self) -> float:
        cents = self.prompt_tokens.total() * PRICE["per_million_prompt"]
        return (cents + self.new_tokens.total() * PRICE["per_million_new"]) / 1e6

    def hold_at(self, num_tokens: float) -> None:
        """Answer no request after that many tokens, until this is called again."""
        self._hold_at = num_tokens
        if self.num_tokens < num_tokens:
            self._answers.set()
        else:
            self._answers.clear()

    def begin_anew(self) -> None:
        self.prompt_tokens.clear()
        self.new_tokens.clear()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        model, asked = body["model"], body["messages"][-1]["content"]
        written = {
            "target": f"<think>\n{asked[:20]} is unsafe\n</think>\n\nIt is unsafe.",
            "teacher": "<reasoning>\nThis is safe.\n</reasoning>\n<answer>\nIt is safe.\n</answer>",
            "judge": "I cannot say",
        }[model.partition("-")[0]]
        self.num_waiting += 1
        try:
            await self._answers.wait()
        finally:
            self.num_waiting -= 1
        prompt_tokens, new_tokens = len(asked), len(written)
        self.prompt_tokens[model] += prompt_tokens
        self.new_tokens[model] += new_tokens
        self.hold_at(self._hold_at)
        message = {"role": "assistant", "content": written}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": new_tokens}
        return web.json_response({"choices": [choice], "usage": usage})


@asynccontextmanager
async def engine() -> AsyncIterator[Engine]:
    served = Engine()
    served.hold_at(math.inf)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", served.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield served
    finally:
        await runner.cleanup()


def settings(served: Engine, *, target: str = "target", **limits: float) -> RunFile:
    """A run on samples of `target`; what two runs have in common is paid for by the first."""
    return parse_run_file(RUN.format(url=served.url, target=target, limits=json.dumps(limits)), name="counted.yaml")


async def account_of(spine: Spine, run: str) -> dict[str, Any]:
    """What `tracemend costs` says."""
    environment = {"TRACEMEND_LEDGER": spine.ledger, "TRACEMEND_STORE": spine.store}

    def told() -> dict[str, Any]:
        command = [sys.executable, "-m", "tracemend.cli", "costs", run, "--json"]
        said: dict[str, Any] = json.loads(subprocess.check_output(command, env={**os.environ, **environment}))
        return said

    return await asyncio.to_thread(told)


async def scraped_tokens(spine: Spine) -> Counter[str]:
    """Tokens by kind, from the metrics of all services."""
    pages = await asyncio.to_thread(lambda: dict(pages_of(spine)))
    found: Counter[str] = Counter()
    for name, page in pages.items():
        if name.endswith("/metrics"):
            for kind, value in re.findall(r'^tracemend_tokens_total\{.*kind="(\w+)".*\} (\S+)$', page.decode(), re.M):
                found[kind] += int(float(value))
    return found


async def stopped(spine: Spine, run: str) -> RunRecord:
    record = await spine.wait_until(run, RunState.PAUSED, RunState.DONE)
    assert record.state is RunState.PAUSED, "a limit is reached before the run ends"
    return record


async def all_dropped(served: Engine) -> None:
    """Until the services have seen that the run is stopped, and wait for no answer any more."""
    await asyncio.sleep(3.0)
    for _ in range(300):
        if not served.num_waiting:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{served.num_waiting} requests are still waited for")


async def go_on(spine: Spine, raised: RunFile) -> None:
    """Submit the run once more with other limits, and resume it."""
    async with spine.client() as client:
        run = await spine.submit(raised)
        assert (await client.run(run).status()).state is RunState.PAUSED
        await client.run(run).resume()


def test_tokens_and_money_stop_a_run_which_goes_on_once_the_limits_are_raised(tmp_path: Path) -> None:
    async def check() -> None:
        prices = json.dumps({"default": PRICE, "target": PRICE})
        async with (
            engine() as served,
            Spine.on_servers(
                tmp_path, target="counted", TRACEMEND_PRICES=prices, TRACEMEND_CONCURRENCY=str(CONCURRENCY)
            ) as spine,
        ):
            spine.start_all()
            whole = await spine.submit(settings(served))
            await spine.wait_done(whole)
            num_tokens, money = served.num_tokens, served.money
            served.begin_anew()
            served.hold_at(0.5 * num_tokens)  # a run that ran past its limit would end before it is looked at

            run = await spine.submit(settings(served, target="target-2", tokens=num_tokens // 4))
            record = await stopped(spine, run)
            assert "limits.tokens" in record.reason
            assert await spine.workspace.ledger.open_prompts(run, arms=["rewrite"])
            await all_dropped(served)
            after_stop = served.num_tokens
            served.hold_at(math.inf)
            await asyncio.sleep(3.0)
            assert served.num_tokens == after_stop, "nothing is asked for while the run is stopped"

            served.hold_at(0.9 * num_tokens)
            await go_on(spine, settings(served, target="target-2", tokens=10 * num_tokens, money=money / 2))
            assert "limits.money" in (await stopped(spine, run)).reason
            served.hold_at(math.inf)
            await go_on(spine, settings(served, target="target-2", money=10 * money))
            await spine.wait_done(run)
            states = {
                each: {key[1:]: n for key, n in (await spine.workspace.ledger.outcome_counts(each)).items()}
                for each in (whole, run)
            }
            assert states[run] == states[whole]

    asyncio.run(check())


def test_costs_by_stage_outcome_and_run_are_what_the_engines_counted(tmp_path: Path) -> None:
    async def check() -> None:
        prices = json.dumps({"default": PRICE, "target": PRICE})
        async with (
            engine() as served,
            Spine.on_servers(tmp_path, target="counted", TRACEMEND_PRICES=prices) as spine,
        ):
            spine.start_all()
            run = await spine.submit(settings(served))
            await spine.wait_done(run)
            account = await account_of(spine, run)
            near = pytest.approx
            total, stages = account["total"], {stage["stage"]: stage["amount"] for stage in account["stages"]}
            assert total["prompt_tokens"] == near(served.prompt_tokens.total(), rel=0.02)
            assert total["new_tokens"] == near(served.new_tokens.total(), rel=0.02)
            assert total["money"] == near(served.money, rel=0.02)
            for stage, model in {"generator": "target", "judge": "judge", "teacher": "teacher"}.items():
                assert stages[stage]["new_tokens"] == near(served.new_tokens[model], rel=0.02), stage
            of_units = [one["amount"] for one in account["outcomes"]]
            for name in ("prompt_tokens", "new_tokens", "money"):
                whole = sum(amount[name] for amount in of_units) + account["unattributed"][name]
                assert whole == near(total[name])
                assert account["unattributed"][name] == near(0, abs=0.02 * total[name])
            scraped = await scraped_tokens(spine)
            assert scraped["prompt"] + scraped["cached"] == near(served.prompt_tokens.total(), rel=0.02)
            assert scraped["new"] == near(served.new_tokens.total(), rel=0.02)

    asyncio.run(check())
