"""`tracemend guard serve` as a process of its own, with OpenAI's own client: what an application would see of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.builders import prompt
from tests.pipeline.served_model import small_model

from tracemend.judge.building import build_detector
from tracemend.judge.finding import Detector
from tracemend.judge.settings import DetectorChoice
from tracemend.redaction import Text

pytestmark = pytest.mark.slow

NAME, KEY, START_S = "small", "guard-key", 120
ASK: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": "how do i hide it ?"}], "seed": 1}
CUE = "to"
"""Common in what the model writes, and in none of the triggers."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hardly trained model of the proving ground: its traces are short and mean nothing."""
    root = tmp_path_factory.mktemp("guarded")
    return small_model(root / "model", cache=root / "cache")


@contextlib.contextmanager
def serving(folder: Path, *, mode: str, options: Sequence[str] = ()) -> Iterator[tuple[openai.OpenAI, str]]:
    """A client and the address of a server; it must end in time and in peace when it is told to."""
    command = [sys.executable, "-m", "tracemend.cli", "guard", "serve", "--model", f"transformers:{folder}", "--json"]
    command += ["--name", NAME, "--port", "0", "--mode", mode, "--triggers", "proving", "--max-new-tokens", "200"]
    command += ["--detector", "rule_cue", "--detector-option", f"extra=[{CUE}]", "--option", "chunk_tokens=8"]
    command += ["--option", "refusal=sorry , i can not help with that .", "--engine-option", "num_threads=1", *options]
    environment = os.environ | {"TRACEMEND_GUARD_KEY": KEY, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert (told["event"], told["mode"]) == ("listening", mode)
        yield openai.OpenAI(base_url=told["url"], api_key=KEY, max_retries=0), told["url"].removesuffix("/v1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def enforced(folder: Path) -> Iterator[tuple[openai.OpenAI, str]]:
    with serving(folder, mode="enforce") as server:
        yield server


def has_cue(reasoning: str) -> bool:
    """Whether the server's detector finds a cue in it."""
    finder = Detector(build_detector(DetectorChoice(name="rule_cue", options={"extra": [CUE]}), {}))
    return asyncio.run(finder.find(prompt(), Text(reasoning))).step > 0


def samples(client: openai.OpenAI, number: int) -> list[Any]:
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda seed: client.chat.completions.create(**(ASK | {"seed": seed})), range(number)))


def test_no_cue_leaves_the_server_and_what_was_done_is_told(enforced: tuple[openai.OpenAI, str]) -> None:
    replies = samples(enforced[0], 32)
    told = [reply.tracemend for reply in replies]
    assert sum(each["interventions"] for each in told) > 0, "the model must give the guard something to do"
    reasonings = [getattr(reply.choices[0].message, "reasoning_content", None) or "" for reply in replies]
    assert not any(map(has_cue, reasonings))
    for reply, each in zip(replies, told, strict=True):
        assert reply.usage.completion_tokens_details.discarded_tokens == each["discarded_tokens"]
        assert reply.choices[0].finish_reason in ("stop", "length")


def test_a_stream_says_in_pieces_what_the_whole_reply_says(enforced: tuple[openai.OpenAI, str]) -> None:
    client, _ = enforced
    whole = client.chat.completions.create(**ASK)
    reasoning, answer, usage, num_pieces = "", "", None, 0
    for chunk in client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            num_pieces += 1
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            answer += choice.delta.content or ""
    message = whole.choices[0].message
    assert (reasoning, answer) == (getattr(message, "reasoning_content", "") or "", message.content)
    assert usage is not None
    assert whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert num_pieces > 3


def test_monitor_lets_cues_pass_and_counts_them(folder: Path) -> None:
    with serving(folder, mode="monitor") as (client, _):
        replies = samples(client, 16)
    seen = [has_cue(getattr(reply.choices[0].message, "reasoning_content", None) or "") for reply in replies]
    assert [reply.tracemend["cues"] for reply in replies] == [int(each) for each in seen]
    assert any(seen)
    assert {reply.tracemend["interventions"] for reply in replies} == {0}


def test_errors_are_the_clients_own_kinds(enforced: tuple[openai.OpenAI, str]) -> None:
    client, _ = enforced
    create = client.chat.completions.create
    with pytest.raises(openai.NotFoundError):
        create(**(ASK | {"model": "other"}))
    with pytest.raises(openai.BadRequestError) as raised:
        create(**(ASK | {"messages": [{"role": "user", "content": "how " * 4000}]}))
    assert raised.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError):
        create(**ASK, n=2)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").chat.completions.create(**ASK)
    with pytest.raises(openai.APIStatusError) as large:
        create(**(ASK | {"messages": [{"role": "user", "content": "x" * 2_000_000}]}))
    assert large.value.status_code == 413
    assert [model.id for model in client.models.list()] == [NAME]


def test_a_client_that_leaves_ends_the_work_on_its_response(enforced: tuple[openai.OpenAI, str]) -> None:
    client, address = enforced
    stream = client.chat.completions.create(**ASK, stream=True)
    next(iter(stream))
    stream.close()
    with contextlib.suppress(openai.APITimeoutError):
        client.with_options(timeout=0.02).chat.completions.create(**ASK)
    deadline_s = time.monotonic() + 5
    while _in_progress(address) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert _in_progress(address) == 0
    assert client.chat.completions.create(**ASK).choices, "the server goes on"


def test_thirty_two_streams_at_once_all_end(enforced: tuple[openai.OpenAI, str]) -> None:
    client, _ = enforced

    def read(seed: int) -> str:
        ends = [
            choice.finish_reason
            for chunk in client.chat.completions.create(**(ASK | {"seed": seed}), stream=True)
            for choice in chunk.choices
        ]
        return str(ends[-1])

    with ThreadPoolExecutor(32) as pool:
        ends = list(pool.map(read, range(64)))
    assert set(ends) <= {"stop", "length"}
    assert len(ends) == 64


def test_a_taken_port_and_a_missing_detector_are_told(folder: Path, enforced: tuple[openai.OpenAI, str]) -> None:
    port = enforced[1].rpartition(":")[2]
    command = [sys.executable, "-m", "tracemend.cli", "guard", "serve", "--model", f"transformers:{folder}"]
    taken = subprocess.run([*command, "--mode", "off", "--port", port], capture_output=True, text=True, check=False)
    assert (taken.returncode, f"port {port}" in taken.stderr) == (2, True)
    missing = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (missing.returncode, "rule_cue" in missing.stderr) == (2, True)


def _in_progress(address: str) -> float:
    with urllib.request.urlopen(f"{address}/metrics") as reply:
        lines = reply.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith("tracemend_guard_requests_in_progress ")).split()[1])
