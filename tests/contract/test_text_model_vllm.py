"""The `TextModel` contract over vLLM on a CPU, in this process and as vLLM's own API server."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.contract import text_model_suite as suite
from tests.contract import tiny_models

from tracemend.kit.errors import Retry, SetupError
from tracemend.kit.ports import Capabilities, Completion, ModelRequest
from tracemend.kit.torch_threads import settle_threads
from tracemend.records import Sampling
from tracemend.runtime.models import open_model

pytestmark = pytest.mark.slow

INLINE = suite.checks_for(
    Capabilities(token_ids=True, prefix_cache=True, seeds=True, logprobs=True, max_model_len=tiny_models.CONTEXT),
    reopens=False,
)
LONG = replace(suite.GREEDY, max_new_tokens=200)
SERVED = suite.checks_for(Capabilities(token_ids=True, logprobs=True, max_model_len=tiny_models.CONTEXT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("model") / "qwen2", "qwen2")


@dataclass(frozen=True)
class Server:
    """A vLLM API server on loopback, perhaps still starting."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Started first and waited for last: it loads while the inline tests run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name",
        "tiny", "--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--dtype", "float32",
        "--no-enable-chunked-prefill",  # or seeded requests end the server: see vllm_setup
    ]  # fmt: skip
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield Server(process, port, log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def inline(folder: Path, server: Server) -> Iterator[suite.Subject]:
    model = open_model(f"vllm:{folder}")
    yield suite.Subject(model=model, reopen=lambda: open_model(f"vllm:{folder}"))
    asyncio.run(model.aclose())


@pytest.mark.parametrize("check", INLINE, ids=lambda check: check.__name__)
async def test_vllm_engine(check: suite.Check, inline: suite.Subject) -> None:
    await check(inline)


async def test_vllm_and_transformers_write_the_same_greedy_tokens(inline: suite.Subject, folder: Path) -> None:
    """Two engines, one model: same identity, same prompt ids, same response ids."""
    other = open_model(f"transformers:{folder}")
    assert other.identity == inline.model.identity
    for index in range(8):
        ours, theirs = await asyncio.gather(other.complete(suite.ask(index)), inline.model.complete(suite.ask(index)))
        assert ours.token_ids == theirs.token_ids
        assert ours.text.reveal() == theirs.text.reveal()
        assert ours.num_prompt_tokens == theirs.num_prompt_tokens
    await other.aclose()


async def test_seeded_requests_survive_more_prompt_tokens_than_one_step_reads(inline: suite.Subject) -> None:
    warm = Sampling(temperature=1.0, max_new_tokens=4)
    requests = [
        ModelRequest(prompt_tokens=tuple(range(i % 90 + 1, i % 90 + 231)), sampling=warm, seed=i) for i in range(120)
    ]
    done = await asyncio.gather(*map(inline.model.complete, requests))
    assert all(c.num_new_tokens for c in done)
    assert done[30].token_ids == (await inline.model.complete(requests[30])).token_ids


async def test_settings_that_vllm_refuses_are_the_callers_error_and_nobody_elses(inline: suite.Subject) -> None:
    asked = [suite.ask(0), suite.ask(1, sampling=Sampling(temperature=9.0)), suite.ask(2)]
    first, refused, last = await asyncio.gather(*map(inline.model.complete, asked), return_exceptions=True)
    assert isinstance(refused, ValueError)
    assert [type(each) for each in (first, last)] == [Completion, Completion]


async def test_this_process_can_still_say_how_many_threads_compute(inline: suite.Subject) -> None:
    """vLLM on a CPU takes that from everybody; trainings in this process come after it."""
    import torch

    before = torch.get_num_threads()
    try:
        settle_threads(before + 2)
        assert torch.get_num_threads() == before + 2
    finally:
        settle_threads(before)


async def test_vllm_in_a_process_of_its_own(folder: Path, inline: suite.Subject) -> None:
    model = await asyncio.to_thread(open_model, f"vllm:{folder}", options={"driver": "process"})
    subject = suite.Subject(model=model, reopen=inline.reopen)
    await suite.answers_each_of_fifty_by_its_own_prompt(subject)
    await suite.a_continuation_is_token_exact(subject)
    await suite.forks_of_one_trace_share_what_was_read(subject)
    await suite.cancelling_one_request_leaves_the_others_alone(subject)
    assert (await model.complete(suite.ask(2))).token_ids == (await inline.model.complete(suite.ask(2))).token_ids
    tasks = [asyncio.create_task(model.complete(suite.ask(i, sampling=LONG))) for i in range(50)]
    await asyncio.sleep(0.05)
    await model.aclose()
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert any(isinstance(e, Retry) for e in ended)
    assert all(isinstance(e, Retry) for e in ended if isinstance(e, BaseException))


async def test_vllm_closes_with_retry_and_opens_again(inline: suite.Subject, folder: Path) -> None:
    """Last of this module's inline tests: one process holds one inline engine at a time."""
    with pytest.raises(SetupError, match="one at a time"):
        open_model(f"vllm:{folder}")
    before = await inline.model.complete(suite.ask(1))
    await inline.model.aclose()
    subject = suite.Subject(model=inline.model, reopen=inline.reopen)
    await suite.closing_ends_what_is_under_way_with_retry(subject)
    again = await asyncio.to_thread(inline.reopen)
    assert (await again.complete(suite.ask(1))).token_ids == before.token_ids
    await again.aclose()


# vLLM's own server ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(server: Server) -> str:
    _wait_until_healthy(server)
    return f"openai:tiny@http://127.0.0.1:{server.port}/v1"


def _wait_until_healthy(server: Server, *, within_s: float = 300) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"vLLM's server did not start: {server.log.read_text()[-2000:]}")


@pytest.fixture
async def endpoint(served: str) -> AsyncIterator[suite.Subject]:
    options = {"completions": True, "max_model_len": tiny_models.CONTEXT, "price_per_million_output": 2.0}
    model = open_model(served, options=options)
    yield suite.Subject(model=model, reopen=lambda: open_model(served, options=options))
    await model.aclose()


@pytest.mark.parametrize("check", SERVED, ids=lambda check: check.__name__)
async def test_openai_engine_on_vllms_server(check: suite.Check, endpoint: suite.Subject) -> None:
    await check(endpoint)


async def test_served_and_local_models_write_the_same_greedy_tokens(endpoint: suite.Subject, folder: Path) -> None:
    local = open_model(f"transformers:{folder}")
    for index in range(4):
        chat = suite.ask(index)
        # The server withholds a character whose last bytes were not written; ours shows it as a replacement character.
        texts = [(await model.complete(chat)).text.reveal().rstrip("\ufffd") for model in (local, endpoint.model)]
        assert texts[0] == texts[1]
        ids = ModelRequest(prompt_tokens=tuple(range(40, 60 + index)), sampling=suite.GREEDY)
        assert (await local.complete(ids)).token_ids == (await endpoint.model.complete(ids)).token_ids
    await local.aclose()


async def test_tokens_are_priced(endpoint: suite.Subject) -> None:
    completion = await endpoint.model.complete(suite.ask(0, sampling=replace(Sampling(), max_new_tokens=5)))
    assert completion.money == pytest.approx(completion.num_new_tokens * 2e-6)


async def test_the_server_counts_the_tokens_that_completions_account(server: Server, endpoint: suite.Subject) -> None:
    """vLLM's own counters and ours agree within 2 %."""
    before = await asyncio.to_thread(_counters, server)
    done = await asyncio.gather(*(endpoint.model.complete(suite.ask(index)) for index in range(24)))
    after = await asyncio.to_thread(_counters, server)
    prompt, new = (after[name] - before[name] for name in ("vllm:prompt_tokens_total", "vllm:generation_tokens_total"))
    assert sum(completion.num_prompt_tokens for completion in done) == pytest.approx(prompt, rel=0.02)
    assert sum(completion.num_new_tokens for completion in done) == pytest.approx(new, rel=0.02)
    assert new > 0


def _counters(server: Server) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    samples = [line.partition("{")[0::2] for line in lines if line.startswith("vllm:") and "{" in line]
    return {name: float(rest.rpartition(" ")[2]) for name, rest in samples}
