"""Whole loop ÷ bare engine, in tokens per second: what the loop around an engine leaves of it.

Both arms draw the same samples (same requests, same seeds) from one open engine in one process, in turn: the bare arm
submits them all at once and waits; the loop's arm seals prompts, samples, judges, corrects and records in a fresh
folder. The model is random but large enough that a trajectory takes the engine 50 ms or more; the judge reads the last
word, which costs nothing, so that judging is not in the ratio. `cpu_ratio` is the same ratio by the CPU time of the
process: neighbours on the machine blur it less, and it says nothing about waiting.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.one_flow import fly, run_file, sealed
from tests.contract.tiny_models import build_tokenizer

from tracemend.embedded.intake import prompts_of
from tracemend.embedded.runfile import RunFile
from tracemend.embedded.workspace import open_workspace
from tracemend.generator.service import Generator, plan_samples
from tracemend.kit.ports import ModelRequest, TextModel
from tracemend.records import Prompt
from tracemend.runtime.models import open_model
from tracemend.traces.template import ChatTemplate

_SAMPLES = 2
SLOW_ENOUGH_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What both arms share."""

    settings: RunFile
    prompts: list[Prompt]
    model: TextModel
    template: ChatTemplate
    generator: Generator


@dataclass(frozen=True, slots=True)
class _Rates:
    """New tokens per second of one arm, by round."""

    per_s: list[float] = field(default_factory=list)
    per_cpu_s: list[float] = field(default_factory=list)
    """The same by the CPU time of the process, which busy neighbours change less."""


def measure_share(
    engine: str, *, threads: int, rounds: int, num_prompts: int = 192, num_tokens: int = 48, num_layers: int = 12
) -> dict[str, Any]:
    """Medians over `rounds` of both arms on `engine` (`transformers` or `vllm`), and their ratio."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = build_model(Path(scratch) / "model", num_layers=num_layers)
        return asyncio.run(_measure(engine, folder, num_prompts, num_tokens, threads=threads, rounds=rounds))


async def _measure(
    engine: str, folder: Path, num_prompts: int, num_tokens: int, *, threads: int, rounds: int
) -> dict[str, Any]:
    bench = await _open(engine, folder, num_prompts, num_tokens, threads=threads)
    bare, loop = _Rates(), _Rates()
    try:
        for round_ in range(rounds + 1):
            arms = [(_bare, bare), (_loop, loop)]
            for arm, rates in arms if round_ % 2 else reversed(arms):
                wall_s, cpu_s = time.perf_counter(), time.process_time()
                num_new_tokens = await arm(bench)
                if round_:  # the first warms up
                    rates.per_s.append(num_new_tokens / (time.perf_counter() - wall_s))
                    rates.per_cpu_s.append(num_new_tokens / (time.process_time() - cpu_s))
    finally:
        await bench.model.aclose()
    per_trajectory_s = num_tokens / statistics.median(bare.per_s)
    return {
        "num_trajectories": num_prompts * _SAMPLES,
        "bare_tokens_per_s": statistics.median(bare.per_s),
        "loop_tokens_per_s": statistics.median(loop.per_s),
        "ratio": statistics.median(loop.per_s) / statistics.median(bare.per_s),
        "cpu_ratio": statistics.median(loop.per_cpu_s) / statistics.median(bare.per_cpu_s),
        "engine_s_per_trajectory": per_trajectory_s,
        "is_slow_enough": per_trajectory_s >= SLOW_ENOUGH_S,
        "bare_rounds": bare.per_s,
        "loop_rounds": loop.per_s,
    }


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
    model = await asyncio.to_thread(open_model, f"{engine}:{folder}", options=options)
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


def build_model(folder: Path, *, num_layers: int) -> Path:
    """A random Llama that almost never ends by itself, with a byte-level tokenizer, in `folder`."""
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
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    model = AutoModelForCausalLM.from_config(config).float()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
