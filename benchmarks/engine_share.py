"""Whole loop ÷ bare engine, in tokens per second: what the loop around an engine leaves of it.

Both arms draw the same samples (same requests, same seeds) from one open engine in one process, in turn: the bare arm
submits them all at once and waits; the loop's arm seals prompts, samples, judges, corrects and records in a fresh
folder. The model is random but large enough that a trajectory takes the engine 50 ms or more; the judge reads the last
word, which costs nothing, so that judging is not in the ratio. Responses end after 48 tokens on average, at different
times as real ones do: were all of one length, an engine that gets them all at once would fill and empty its batch in
step, as no run can.

Neighbours on the machine come and go: each loop round is compared with the bare rounds right before and after it (bare,
loop, bare, loop, bare, …), and the median of these ratios is the figure. `cpu_ratio` is the same by the CPU time of the
process, which neighbours blur less, and which says nothing about waiting. `asked_ratio` is the same from the first
request to the last completion, without what a loop round spends before and after (opening its folder, sealing, the last
batches on their way through the stages), which is told as `loop_idle_s`. `accounted_ratio` needs no second arm: what a
loop round keeps from the engine at most is that time and the event loop's computing, while which the engine's thread
may wait for Python; where both are small and the ratios differ widely, it is the machine that they measure.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engines import end_after
from benchmarks.one_flow import fly, run_file, sealed
from tests.contract.tiny_models import build_tokenizer

from tracemend.embedded.intake import prompts_of
from tracemend.embedded.runfile import RunFile
from tracemend.embedded.workspace import open_workspace
from tracemend.generator.service import Generator, plan_samples
from tracemend.kit.ports import Completion, ModelRequest, TextModel
from tracemend.records import Prompt
from tracemend.runtime.models import open_model
from tracemend.traces.template import ChatTemplate

_SAMPLES = 2
_LONGEST = 3
"""A response is cut off after so many times the mean length."""
SLOW_ENOUGH_S = 0.05


class _Watched:
    """A model, and when it was first asked and last answered."""

    def __init__(self, model: TextModel) -> None:
        self._model = model
        self.identity, self.capabilities, self.aclose = model.identity, model.capabilities, model.aclose
        self.forget()

    def forget(self) -> None:
        """Watch from now on."""
        self.first_s, self.last_s = math.inf, -math.inf

    async def complete(self, request: ModelRequest) -> Completion:
        self.first_s = min(self.first_s, time.perf_counter())
        completion = await self._model.complete(request)
        self.last_s = time.perf_counter()
        return completion


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What both arms share."""

    settings: RunFile
    prompts: list[Prompt]
    model: _Watched
    template: ChatTemplate
    generator: Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """What one arm took for all its samples."""

    num_new_tokens: int
    wall_s: float
    asked_s: float
    """From the first request to the last completion."""
    cpu_s: float
    """Of the process, the engine's thread included."""
    event_loop_s: float
    """CPU time of the thread that runs the event loop: while it computes, the engine's thread waits for Python."""

    @property
    def idle_s(self) -> float:
        """Before the first request and after the last completion."""
        return self.wall_s - self.asked_s

    def rate(self, clock: str) -> float:
        """New tokens per second by `clock`, a field."""
        seconds: float = getattr(self, clock)
        return self.num_new_tokens / seconds


def measure_share(
    engine: str, *, threads: int, rounds: int, num_prompts: int = 192, mean_length: int = 48, num_layers: int = 12
) -> dict[str, Any]:
    """Medians over `rounds` of both arms on `engine` (`transformers` or `vllm`), and of their ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = build_model(Path(scratch) / "model", num_layers=num_layers, mean_length=mean_length)
        longest = _LONGEST * mean_length
        bare, loop = asyncio.run(_measure(engine, folder, num_prompts, longest, threads=threads, rounds=rounds))
    per_trajectory_s = bare[0].num_new_tokens / (num_prompts * _SAMPLES) / _median(bare, "wall_s")
    return {
        "num_trajectories": num_prompts * _SAMPLES,
        "bare_tokens_per_s": _median(bare, "wall_s"),
        "loop_tokens_per_s": _median(loop, "wall_s"),
        "ratio": statistics.median(_ratios(loop, bare, "wall_s")),
        "cpu_ratio": statistics.median(_ratios(loop, bare, "cpu_s")),
        "asked_ratio": statistics.median(_ratios(loop, bare, "asked_s")),
        "accounted_ratio": statistics.median(1 - (each.idle_s + each.event_loop_s) / each.wall_s for each in loop),
        "round_ratios": _ratios(loop, bare, "wall_s"),
        "round_cpu_ratios": _ratios(loop, bare, "cpu_s"),
        "loop_wall_s": statistics.median(each.wall_s for each in loop),
        "loop_idle_s": statistics.median(each.idle_s for each in loop),
        "loop_event_loop_s": statistics.median(each.event_loop_s for each in loop),
        "bare_event_loop_s": statistics.median(each.event_loop_s for each in bare),
        "engine_s_per_trajectory": per_trajectory_s,
        "is_slow_enough": per_trajectory_s >= SLOW_ENOUGH_S,
    }


def _median(rounds: Sequence[_Round], clock: str) -> float:
    return statistics.median(each.rate(clock) for each in rounds)


def _ratios(loop: Sequence[_Round], bare: Sequence[_Round], clock: str) -> list[float]:
    """Of each loop round to the two bare ones around it."""
    around = itertools.pairwise(each.rate(clock) for each in bare)
    return [each.rate(clock) / statistics.mean(pair) for each, pair in zip(loop, around, strict=True)]


async def _measure(
    engine: str, folder: Path, num_prompts: int, num_tokens: int, *, threads: int, rounds: int
) -> tuple[list[_Round], list[_Round]]:
    bench = await _open(engine, folder, num_prompts, num_tokens, threads=threads)
    try:
        await _loop(bench)  # warms up
        bare, loop = [await _timed(_bare, bench)], []
        for _ in range(rounds):
            loop.append(await _timed(_loop, bench))
            bare.append(await _timed(_bare, bench))
    finally:
        await bench.model.aclose()
    return bare, loop


async def _timed(arm: Callable[[_Bench], Awaitable[int]], bench: _Bench) -> _Round:
    bench.model.forget()
    wall_s, cpu_s, thread_s = time.perf_counter(), time.process_time(), time.thread_time()
    num_new_tokens = await arm(bench)
    return _Round(
        num_new_tokens=num_new_tokens,
        wall_s=time.perf_counter() - wall_s,
        asked_s=bench.model.last_s - bench.model.first_s,
        cpu_s=time.process_time() - cpu_s,
        event_loop_s=time.thread_time() - thread_s,
    )


async def _open(engine: str, folder: Path, num_prompts: int, num_tokens: int, *, threads: int) -> _Bench:
    options = {"num_threads": threads, "max_batch": 64} if engine == "transformers" else {"max_batch": 64}
    sampling = {"temperature": 0.8, "top_p": 1.0, "max_new_tokens": num_tokens}
    target = {"model": str(folder), "engine": engine, "sampling": sampling}
    settings = run_file(num_prompts, samples=_SAMPLES, target=target)
    with tempfile.TemporaryDirectory() as scratch:
        run, _ = await sealed(Path(scratch), settings)
        async with open_workspace(Path(scratch)) as workspace:
            prompts = [prompt async for prompt in prompts_of(workspace, run)]
    template = ChatTemplate.load(folder)
    model = _Watched(await asyncio.to_thread(open_model, f"{engine}:{folder}", options=options))
    generator = Generator(model, template=template, reasoning_format=template.format)
    return _Bench(settings=settings, prompts=prompts, model=model, template=template, generator=generator)


async def _bare(bench: _Bench) -> int:
    """All requests at once; new tokens."""
    sampling = bench.settings.target.sampling.record()
    requests = [
        ModelRequest(prompt_tokens=bench.template.prompt_tokens(prompt.text), sampling=sampling, seed=sample.seed)
        for prompt in bench.prompts
        for sample in plan_samples(prompt, model=bench.generator.identity, sampling=sampling, num_samples=_SAMPLES)
    ]
    completions = await asyncio.gather(*map(bench.model.complete, requests))
    return sum(completion.num_new_tokens for completion in completions)


async def _loop(bench: _Bench) -> int:
    """The same samples, judged, corrected and recorded in a folder of their own; new tokens."""
    with tempfile.TemporaryDirectory() as folder:
        run, plan = await sealed(Path(folder), bench.settings)
        return (await fly(Path(folder), run, plan, bench.generator)).num_new_tokens


def build_model(folder: Path, *, num_layers: int, mean_length: int) -> Path:
    """A random Llama whose responses end after `mean_length` tokens on average, with a byte-level tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=num_layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=512,
        attention_bias=True,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    model = AutoModelForCausalLM.from_config(config).float().eval()
    end_after(model, tokenizer.eos_token_id, mean_length=mean_length)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
